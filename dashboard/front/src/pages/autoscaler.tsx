// The autoscaler: how many workers, why, what limits it, and what another setting would have done.
import { useMemo, useState } from "preact/hooks";
import type { DecisionDetail, Explanation, Overview, Scaler, ScalerPoint, ScalerRow } from "../api/contract";
import { useData } from "../api/live";
import { DASH, clock, count, figure, parse, plural, visible } from "../format";
import { seg, setQuery, usePlace } from "../router";
import { useTitle } from "../state";
import { A, Ago, Empty, Foreign, Loading, Panel, Segments, Stat, Trouble } from "../ui/basics";
import { Chart } from "../ui/chart";
import { PageHead } from "../ui/shell";
import { Pager, Table } from "../ui/table";
import { limitWords, reasonWords } from "../words";
import { Because, Before } from "./overview";
import { WhatIfPanel } from "./what-if";

const address = (name: string): string => name.split("/").map(seg).join("/");

export function AutoscalerList() {
  useTitle("Autoscaler");
  const { data, error, reload } = useData<Overview>("/api/overview", {}, "overview");
  return (
    <>
      <PageHead title="Autoscaler" sub="Whoever scales a fleet writes down each decision: the operator, and taskfleet up." />
      {error && <Trouble error={error} retry={reload} />}
      {!data && !error && <Loading />}
      {data && (
        <section class="panel" aria-label="Autoscalers">
          {data.scalers.length ? (
            <Table
              caption="Autoscalers"
              rows={data.scalers}
              rowKey={(row) => row.name}
              columns={[
                { key: "name", head: "Name", cell: (row) => <A href={`/autoscaler/${address(row.name)}`}><Foreign text={row.name} /></A> },
                { key: "replicas", head: "Workers", num: true, cell: (row) => count(row.replicas) },
                { key: "desired", head: "Wanted", num: true, cell: (row) => <b>{count(row.desired)}</b> },
                { key: "busy", head: "Busy", num: true, cell: (row) => count(row.busy) },
                { key: "why", head: "Why", wide: true, cell: (row) => <><Because row={row} /><p class="formula mono"><Foreign text={row.message} /></p></> },
                { key: "at", head: "Decided", cell: (row) => <Ago at={row.at} /> },
              ]}
            />
          ) : (
            <Empty>No autoscaler has decided anything in the last day.</Empty>
          )}
        </section>
      )}
    </>
  );
}

const TERMS: [string, string, string][] = [
  ["steady_slots", "Steady", "slots for the tasks that arrive"],
  ["drain_slots", "Drain", "slots to work off what waits"],
  ["late_slots", "Late", "slots for tasks that would wait too long"],
];

/** A decision from its terms to its number, each step with its size. */
function Steps({ point }: { point: ScalerPoint }) {
  const term = (name: string) => point.terms[name] ?? null;
  const slots = term("slots");
  const per = term("slots_per_replica");
  const recommended = Math.max(term("recommended_replicas") ?? 0, term("panicking") ? (term("panic_replicas") ?? 0) : 0);
  const inReplicas = (value: number | null) => (value === null || !per ? null : value / per);
  const rows: { name: string; text: string; value: number | null; kind: string }[] = [
    ...TERMS.map(([key, name, text]) => ({ name, text: `${figure(term(key))} ${text}`, value: inReplicas(term(key)), kind: "part" })),
    { name: "Slots", text: `${figure(slots)} slots are needed, ${figure(per)} a worker`, value: inReplicas(slots), kind: "sum" },
    { name: "Recommended", text: reasonWords(point.reason), value: recommended, kind: "sum" },
    { name: "Decided", text: point.limited_by ? `${limitWords(point.limited_by)} (${visible(point.limited_by)})` : "no limit changed it", value: point.desired, kind: point.limited_by ? "limited" : "end" },
    { name: "There are", text: term("busy_workers") === null ? "" : `${figure(term("busy_workers"))} of them busy`, value: point.replicas, kind: "now" },
  ];
  if (rows.every((row) => !row.value)) return null;
  const most = Math.max(1, ...rows.map((row) => row.value ?? 0));
  return (
    <table class="steps">
      <caption class="sr">From the terms to the number of workers</caption>
      <thead class="sr"><tr><th scope="col">Step</th><th scope="col">Workers</th><th scope="col">Size</th><th scope="col">What it is</th></tr></thead>
      <tbody>
        {rows.map((row) => (
          <tr key={row.name} class={`step-${row.kind}`}>
            <th scope="row">{row.name}</th>
            <td class="num">{row.value === null ? DASH : figure(Math.round(row.value * 10) / 10)}</td>
            <td class="step-bar">
              <svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
                <rect width={Math.max(row.value ? 0.8 : 0, (100 * (row.value ?? 0)) / most)} height="10" />
              </svg>
            </td>
            <td class="step-text">{row.text}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Decision({ name, point, onClose }: { name: string; point: ScalerPoint; onClose?: () => void }) {
  const { data, error } = useData<DecisionDetail>(point.reason ? `/api/scalers/${address(name)}/decisions/${seg(point.at)}` : null);
  const shown = data ?? point;
  const columns = useMemo(() => [...new Set((data?.queues ?? []).flatMap((queue) => Object.keys(queue.terms)))].slice(0, 24), [data]);
  const at = parse(point.at);
  return (
    <Panel id="decision" title={<>Decision of {at ? clock(at) : ""}</>} aside={onClose && <button type="button" class="quiet" onClick={onClose}>Show the latest</button>}>
      <Because row={{ ...shown, name }} />
      {shown.limit_message && <p class="small tone-warn"><Foreign text={shown.limit_message} /></p>}
      <p class="formula mono"><Foreign text={shown.message} /></p>
      <Steps point={shown} />
      {error && <Trouble error={error} />}
      {data && data.queues.length > 0 && (
        <details>
          <summary>Terms of {plural(data.queues.length, "queue")}</summary>
          <Table
            caption="Terms by queue"
            rows={data.queues}
            rowKey={(row) => row.queue}
            columns={[
              { key: "queue", head: "Queue", cell: (row) => <A href={`/queues/${seg(row.queue)}`}><Foreign text={row.queue} /></A> },
              ...columns.map((key) => ({ key, head: key.replaceAll("_", " "), num: true, cell: (row: { terms: Record<string, number | null> }) => figure(row.terms[key]) })),
            ]}
          />
        </details>
      )}
      <details>
        <summary>All terms</summary>
        <dl class="terms">
          {Object.entries(shown.terms).map(([key, value]) => (
            <div key={key}><dt>{key.replaceAll("_", " ")}</dt><dd class="num">{figure(value)}</dd></div>
          ))}
        </dl>
      </details>
    </Panel>
  );
}

function Explained({ name, earlier }: { name: string; earlier: ScalerRow["earlier"] }) {
  const { data } = useData<Explanation>(`/api/explain/${address(name)}`, {}, `scaler:${name}`, true);
  if (!data) return null;
  return (
    <section class="panel explain" aria-labelledby="why-title">
      <h2 id="why-title">Why {plural(data.desired, "worker")}</h2>
      <p class="why"><Foreign text={data.why} /></p>
      {data.limit && <p class="why-limit tone-warn"><span class="glyph" aria-hidden="true">⊓</span> <Foreign text={data.limit} /></p>}
      {earlier && <Before row={earlier} />}
      {data.changes.length > 0 && (
        <>
          <h3>What would change it</h3>
          <ul>{data.changes.map((text) => <li key={text}><Foreign text={text} /></li>)}</ul>
        </>
      )}
      {data.lines.length > 0 && (
        <details>
          <summary>The terms in numbers</summary>
          <ul class="why-lines">
            {data.lines.map((line) => <li key={line.name}><b class="num">{figure(line.value)}</b> <Foreign text={line.text || line.name} /></li>)}
          </ul>
        </details>
      )}
    </section>
  );
}

const SIZE = 25;

export function AutoscalerPage({ name }: { name: string }) {
  useTitle(name);
  const { query } = usePlace();
  const span = query.get("span") === "24h" ? "24h" : "1h";
  const { data, error, reload } = useData<Scaler>(`/api/scalers/${address(name)}`, { span }, `scaler:${name}`, true);
  const [picked, setPicked] = useState<string | null>(null);
  const [offset, setOffset] = useState(0);
  const [changes, setChanges] = useState(true);
  const overview = useData<Overview>("/api/overview", { limit: 1 }, "overview").data;
  const title = <Foreign text={name} />;
  if (!data) return <><PageHead title={title} />{error ? <Trouble error={error} retry={reload} /> : <Loading />}</>;
  const points = data.points;
  const last = points.at(-1);
  const point = points.find((each) => each.at === picked) ?? last;
  const decisions = points
    .filter((each, i) => {
      const before = points[i - 1];
      return each.reason && (!changes || !before || before.desired !== each.desired || before.limited_by !== each.limited_by || before.reason !== each.reason);
    })
    .reverse();
  const earlier = overview?.scalers.find((each) => each.name === name)?.earlier ?? null;
  const times = points.map((each) => each.at);
  const terms = (key: string) => points.map((each) => each.terms[key] ?? null);
  return (
    <>
      <PageHead title={title} sub={last ? <>decided <Ago at={last.at} /></> : undefined} />
      {error && <Trouble error={error} retry={reload} />}
      {!last && <Empty>It has decided nothing in this time.</Empty>}
      {last && (
        <dl class="stats" aria-label="Figures">
          <Stat label="Wanted" value={count(last.desired)} />
          <Stat label="Workers" value={count(last.replicas)} note={last.replicas === last.desired ? "as wanted" : last.replicas < last.desired ? "more are to start" : "fewer are to stay"} />
          <Stat label="Busy" value={count(last.busy)} />
          <Stat label="Limits" value={last.limited_by ? <span class="stat-text">{visible(last.limited_by)}</span> : "none"} note={last.limited_by ? limitWords(last.limited_by) : "nothing holds it back"} tone={last.limited_by ? "warn" : ""} />
        </dl>
      )}
      <Explained name={name} earlier={earlier} />
      <WhatIfPanel name={name} spec={data.spec} />
      <Panel id="over-time" title="Over time" aside={<Segments label="Span" value={span} options={[["1h", "1 hour"], ["24h", "24 hours"]] as const} onChange={(value) => { setPicked(null); setQuery({ span: value === "1h" ? null : value }); }} />}>
        <Chart
          title="Workers"
          times={times}
          format={figure}
          height={210}
          onPick={span === "1h" ? (i) => setPicked(times[i] ?? null) : undefined}
          series={[
            { name: "wanted", values: points.map((each) => each.desired), look: "a", step: true },
            { name: "there", values: points.map((each) => each.replicas), look: "c", step: true },
            { name: "busy", values: points.map((each) => each.busy), look: "b", area: true },
          ]}
        />
        {span === "1h" && (
          <>
            <Chart
              title="What the number is made of"
              unit="slots"
              times={times}
              format={figure}
              onPick={(i) => setPicked(times[i] ?? null)}
              series={[
                { name: "needed", values: terms("slots"), look: "e" },
                { name: "steady", values: terms("steady_slots"), look: "b" },
                { name: "drain", values: terms("drain_slots"), look: "a", area: true },
                { name: "late", values: terms("late_slots"), look: "d" },
              ]}
            />
            <p class="faint small">A click, or Enter, on a point in time shows the decision that was made then.</p>
          </>
        )}
      </Panel>
      {point && span === "1h" && <Decision key={point.at} name={name} point={point} onClose={picked ? () => setPicked(null) : undefined} />}
      {span === "1h" && (
        <Panel
          id="decisions"
          title={<>Decisions <span class="faint">{count(decisions.length)}</span></>}
          aside={<label class="check"><input type="checkbox" checked={changes} onChange={(event) => { setChanges(event.currentTarget.checked); setOffset(0); }} /><span>Only where something changed</span></label>}
        >
          <Table
            caption="Decisions"
            rows={decisions.slice(offset, offset + SIZE)}
            rowKey={(row) => row.at}
            rowClass={(row) => (row.at === point?.at ? "chosen" : "")}
            columns={[
              { key: "at", head: "When", cell: (row) => <button type="button" class="linky nowrap" onClick={() => { setPicked(row.at); document.getElementById("decision-title")?.scrollIntoView({ block: "center" }); }}>{parse(row.at) ? clock(parse(row.at)!) : row.at}<span class="sr">, show this decision</span></button> },
              { key: "replicas", head: "There", num: true, cell: (row) => count(row.replicas) },
              { key: "desired", head: "Wanted", num: true, cell: (row) => <b>{count(row.desired)}{row.desired > row.replicas ? " ↑" : row.desired < row.replicas ? " ↓" : ""}</b> },
              { key: "reason", head: "Reason", cell: (row) => <span title={reasonWords(row.reason)}>{visible(row.reason)}</span> },
              { key: "limit", head: "Limited by", cell: (row) => row.limited_by ? <span class="tone-warn" title={visible(row.limit_message || limitWords(row.limited_by))}>{visible(row.limited_by)}</span> : <span class="faint">nothing</span> },
              { key: "message", head: "In numbers", wide: true, cell: (row) => <span class="mono small"><Foreign text={row.message} clip={200} /></span> },
            ]}
          />
          <Pager offset={offset} size={SIZE} total={decisions.length} onChange={setOffset} />
        </Panel>
      )}
    </>
  );
}
