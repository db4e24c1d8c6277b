// The overview: what waits, what runs, what failed, and why the fleet has the size it has.
import type { Overview as Body, QueueRow, ScalerRow } from "../api/contract";
import { useData } from "../api/live";
import { DASH, clock, count, duration, parse, plural, rate, visible } from "../format";
import { seg, setQuery, usePlace } from "../router";
import { useTitle } from "../state";
import { A, Ago, Empty, Field, Foreign, Loading, Panel, QueueLink, Stat, State, TaskLink, Trouble } from "../ui/basics";
import { Spark } from "../ui/chart";
import { PageHead } from "../ui/shell";
import { Pager, Table, type Column } from "../ui/table";
import { limitWords, reasonWords } from "../words";

const SIZE = 50;

type Draining = { ready: number; in_per_second: number | null; out_per_second: number | null; drains_in_seconds: number | null };

function drains(row: Draining) {
  if (!row.ready) return <span class="faint">empty</span>;
  if (row.in_per_second === null || row.out_per_second === null) return <span class="faint" title="The rates are known in a moment">{DASH}</span>;
  if (row.drains_in_seconds === null) return <span class="tone-warn">not falling</span>;
  return duration(row.drains_in_seconds);
}

/** When nothing waits any more, as a note below the number that waits. */
export function drainsNote(row: Draining) {
  if (!row.ready) return "nothing waits";
  if (row.in_per_second === null || row.out_per_second === null) return "rates not known yet";
  if (row.drains_in_seconds === null) return <span class="tone-warn">not falling</span>;
  return `gone in ${duration(row.drains_in_seconds)}`;
}

const COLUMNS: Column<QueueRow>[] = [
  { key: "name", head: "Queue", sort: "name", cell: (row) => <QueueLink name={row.name} /> },
  {
    key: "state",
    head: "State",
    sort: "state",
    cell: (row) =>
      row.state ? (
        <span title={visible(row.problem || row.limits)}>
          <State state={row.state} />
        </span>
      ) : (
        <span class="faint">open</span>
      ),
  },
  { key: "spark", head: "Last hour", hint: "Ready tasks in the last hour", cell: (row) => <Spark values={row.spark} label={`${row.name}, ready tasks`} /> },
  { key: "ready", head: "Ready", num: true, sort: "ready", hint: "Tasks that wait for a worker", cell: (row) => count(row.ready) },
  { key: "running", head: "Running", num: true, sort: "running", cell: (row) => count(row.running) },
  { key: "oldest", head: "Oldest", num: true, sort: "oldest", hint: "How long the task at the head has waited", cell: (row) => (row.ready ? duration(row.oldest_age_seconds) : DASH) },
  { key: "in", head: "In /s", num: true, sort: "in", cell: (row) => rate(row.in_per_second) },
  { key: "out", head: "Out /s", num: true, sort: "out", cell: (row) => rate(row.out_per_second) },
  { key: "failed", head: "Failed /s", num: true, sort: "failed", cell: (row) => <span class={row.failed_per_second ? "tone-bad" : ""}>{rate(row.failed_per_second)}</span> },
  { key: "drains", head: "Gone in", num: true, sort: "drains", hint: "When nothing will wait any more at this rate", cell: drains },
  { key: "delayed", head: "Delayed", num: true, sort: "delayed", cell: (row) => count(row.delayed) },
  {
    key: "dead",
    head: "Dead",
    num: true,
    sort: "dead",
    cell: (row) => (row.dead ? <A href={`/dead?queue=${seg(row.name)}`}>{count(row.dead)}</A> : <span class="faint">0</span>),
  },
  { key: "workers", head: "Workers", num: true, cell: (row) => <span class={!row.workers && row.ready ? "tone-bad" : ""}>{count(row.workers)}</span> },
];

/** The decision as a sentence. */
export function Because({ row }: { row: Omit<ScalerRow, "earlier"> }) {
  return (
    <p class="because">
      <b>{plural(row.desired, "worker")}</b> because {reasonWords(row.reason)}
      {row.limited_by && (
        <>
          ; <span class="tone-warn">{limitWords(row.limited_by)}</span> <span class="faint">({visible(row.limited_by)})</span>
        </>
      )}
      .{row.replicas !== row.desired && <span class="faint"> There {row.replicas === 1 ? "is" : "are"} {count(row.replicas)} now.</span>}
    </p>
  );
}

/** The most workers of the last hour: why there were so many can be asked when they are gone, too. */
export function Before({ row }: { row: NonNullable<ScalerRow["earlier"]> }) {
  const [at, until] = [parse(row.at), parse(row.until)];
  const times = !at ? "" : until ? ` from ${clock(at)} to ${clock(until)}` : ` since ${clock(at)}`;
  return (
    <p class="before" title={visible(row.message)}>
      Most in the last hour: <b>{plural(row.desired, "worker")}</b>
      {times}, because {reasonWords(row.reason)}
      {row.limited_by && <>; {limitWords(row.limited_by)}</>}.
    </p>
  );
}

function Scalers({ rows }: { rows: ScalerRow[] }) {
  return (
    <Panel id="scalers" title="Why this many workers" aside={<A href="/autoscaler">Autoscaler</A>}>
      {rows.length ? (
        <ul class="scalers">
          {rows.map((row) => (
            <li key={row.name}>
              <div class="scaler-head">
                <A href={`/autoscaler/${row.name.split("/").map(seg).join("/")}`}>
                  <Foreign text={row.name} />
                </A>
                <span class="faint"><Ago at={row.at} /></span>
              </div>
              <Because row={row} />
              <p class="formula mono"><Foreign text={row.message} /></p>
              {row.earlier && <Before row={row.earlier} />}
            </li>
          ))}
        </ul>
      ) : (
        <Empty>Nothing scales this fleet. The operator and <code>taskfleet up</code> record their decisions here.</Empty>
      )}
    </Panel>
  );
}

function Failures({ data }: { data: Body }) {
  return (
    <Panel id="failures" title="Last failures" aside={<A href="/dead">All dead letters</A>}>
      {data.failures.length ? (
        <ul class="failures">
          {data.failures.slice(0, 8).map((row) => (
            <li key={row.id}>
              <div>
                <State state="failed">{row.task ? <Foreign text={row.task} /> : "unreadable"}</State> <TaskLink id={row.id} />
                <span class="faint"> in <QueueLink name={row.queue} /> · <Ago at={row.at} /></span>
              </div>
              <p class="error-line mono">
                <Foreign text={row.reason && row.reason !== "exception" ? `${row.reason}: ${row.error ?? ""}` : row.error} clip={220} />
              </p>
            </li>
          ))}
        </ul>
      ) : (
        <Empty>No task has failed for good.</Empty>
      )}
    </Panel>
  );
}

export function Overview() {
  useTitle("Overview");
  const { query } = usePlace();
  const search = query.get("search") ?? "";
  const sort = query.get("sort") ?? "";
  const offset = Number(query.get("offset")) || 0;
  const own = Boolean(search || sort || offset);
  const { data, error, reload } = useData<Body>("/api/overview", { search, sort, offset: offset || null, limit: own ? SIZE : null }, "overview", own);

  if (!data) return <><PageHead title="Overview" />{error ? <Trouble error={error} retry={reload} /> : <Loading />}</>;
  const { totals, workers, queues } = data;
  return (
    <>
      <PageHead title="Overview" sub={data.unread ? `${plural(data.unread, "queue")} not read yet; the sums are without them` : undefined} />
      {error && <Trouble error={error} retry={reload} />}
      <dl class="stats" aria-label="Totals">
        <Stat label="Ready" href="/tasks?state=ready" value={count(totals.ready)} note={drainsNote(totals)} />
        <Stat label="Running" href="/tasks?state=running" value={count(totals.running)} note={`${plural(workers.slots, "slot")} in all`} />
        <Stat label="In" value={rate(totals.in_per_second)} note="tasks a second" hint="Mean of the last ten seconds" />
        <Stat label="Out" value={rate(totals.out_per_second)} note="tasks a second" hint="Mean of the last ten seconds" />
        <Stat label="Failed" value={rate(totals.failed_per_second)} note="a second" hint="Tasks that became dead letters" tone={totals.failed_per_second ? "bad" : ""} />
        <Stat label="Delayed" href="/tasks?state=delayed" value={count(totals.delayed)} note={totals.blocked ? `${count(totals.blocked)} blocked` : "for later"} />
        <Stat label="Dead letters" href="/dead" value={count(totals.dead)} tone={totals.dead ? "bad" : ""} note={totals.dead ? "to look at" : "none"} />
        <Stat
          label="Workers"
          href="/workers"
          value={count(workers.total)}
          tone={!workers.total && totals.ready ? "bad" : ""}
          note={[
            `${workers.busy} busy`,
            `${workers.idle} idle`,
            workers.cordoned ? `${workers.cordoned} cordoned` : "",
            workers.draining ? `${workers.draining} draining` : "",
          ].filter(Boolean).join(", ")}
        />
      </dl>
      <div class="columns">
        <Scalers rows={data.scalers} />
        <Failures data={data} />
      </div>
      <Panel
        id="queues"
        title={<>Queues <span class="faint">{count(queues.total)}</span></>}
        aside={<Field label="Search queues" value={search} search onChange={(value) => setQuery({ search: value, offset: null })} />}
      >
        {queues.items.length ? (
          <Table
            caption="Queues"
            columns={COLUMNS}
            rows={queues.items}
            rowKey={(row) => row.name}
            sort={sort || "name"}
            onSort={(value) => setQuery({ sort: value, offset: null })}
          />
        ) : (
          <Empty>{search ? "No queue has this text in its name." : "There are no queues yet. The first task makes one."}</Empty>
        )}
        <Pager offset={queues.offset} size={SIZE} total={queues.total} onChange={(value) => setQuery({ offset: value ? String(value) : null })} />
      </Panel>
    </>
  );
}
