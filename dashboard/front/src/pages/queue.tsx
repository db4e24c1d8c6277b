// One queue: its charts, its tasks, its limits, and what can be done with it.
import { useMemo } from "preact/hooks";
import { post } from "../api/client";
import type { Done, History, KeyRow, QueueDetail } from "../api/contract";
import { useData } from "../api/live";
import { DASH, count, duration, figure, plural, rate } from "../format";
import { seg, setQuery, usePlace } from "../router";
import { useSession, useTitle } from "../state";
import { A, Empty, Foreign, Loading, Meter, Panel, Problems, Segments, Stat, State, Trouble } from "../ui/basics";
import { Chart } from "../ui/chart";
import { Code, pretty } from "../ui/data";
import { confirm, perform } from "../ui/dialog";
import { PageHead } from "../ui/shell";
import { Table } from "../ui/table";
import { TaskTable } from "./tasks";
import { drainsNote } from "./overview";

const SPANS = [["1h", "1 hour"], ["24h", "24 hours"], ["7d", "7 days"]] as const;

type Gauge = "ready" | "running" | "delayed" | "dead" | "oldest_age_seconds" | "enqueued_per_second" | "finished_per_second" | "failed_per_second" | "busy_slots";

/** The steps without a record are missing in the answer; a chart shows them as gaps. */
function filled(history: History): { times: string[]; of: (name: Gauge) => (number | null)[] } {
  const times: string[] = [];
  const points: (History["points"][number] | null)[] = [];
  let before = 0;
  for (const point of history.points) {
    const at = Date.parse(point.at);
    const missing = before ? Math.min(400, Math.round((at - before) / 1000 / history.step_seconds) - 1) : 0;
    for (let i = 1; i <= missing; i++) {
      times.push(new Date(before + i * history.step_seconds * 1000).toISOString());
      points.push(null);
    }
    times.push(point.at);
    points.push(point);
    before = at;
  }
  return { times, of: (name) => points.map((point) => point?.[name] ?? null) };
}

function Charts({ name }: { name: string }) {
  const { query } = usePlace();
  const span = (query.get("span") ?? "1h") as "1h" | "24h" | "7d";
  const { data, error, reload } = useData<History>(`/api/queues/${seg(name)}/history`, { span }, span === "1h" ? `queue:${name}` : "", true);
  const series = useMemo(() => data && filled(data), [data]);
  return (
    <Panel
      id="charts"
      title="Over time"
      aside={<Segments label="Span" value={span} options={SPANS} onChange={(value) => { setQuery({ span: value === "1h" ? null : value }); }} />}
    >
      {error && <Trouble error={error} retry={reload} />}
      {series && data && (
        <>
          <div class="charts">
            <Chart title="Tasks" times={series.times} format={count} series={[
              { name: "ready", values: series.of("ready"), look: "a", area: true },
              { name: "running", values: series.of("running"), look: "b" },
              { name: "delayed", values: series.of("delayed"), look: "c" },
              { name: "dead", values: series.of("dead"), look: "d" },
            ]} />
            <Chart title="Rates" unit="tasks a second" times={series.times} format={rate} series={[
              { name: "in", values: series.of("enqueued_per_second"), look: "a", area: true },
              { name: "out", values: series.of("finished_per_second"), look: "b" },
              { name: "failed", values: series.of("failed_per_second"), look: "d" },
            ]} />
            <Chart title="Oldest waiting task" times={series.times} format={duration} series={[
              { name: "age", values: series.of("oldest_age_seconds"), look: "c", area: true },
            ]} />
            <Chart title="Busy slots" times={series.times} format={figure} series={[
              { name: "busy", values: series.of("busy_slots"), look: "b", area: true },
            ]} />
          </div>
          <p class="faint small">A point is {duration(data.step_seconds)}; tasks and ages are the largest of each.</p>
        </>
      )}
    </Panel>
  );
}

export function KeyTable({ caption, rows, queue }: { caption: string; rows: (KeyRow & { queue?: string })[]; queue?: string }) {
  const most = Math.max(1, ...rows.map((row) => row.waiting + (row.running ?? 0)));
  return (
    <Table
      caption={caption}
      rows={rows}
      rowKey={(row) => `${row.queue ?? ""} ${row.key}`}
      columns={[
        {
          key: "key",
          head: "Key",
          cell: (row) => (
            <A href={`/tasks?queue=${seg(row.queue ?? queue ?? "")}&key=${seg(row.key)}`}>
              <Foreign text={row.key} clip={60} />
            </A>
          ),
        },
        ...(queue ? [] : [{ key: "queue", head: "Queue", cell: (row: { queue?: string }) => <A href={`/queues/${seg(row.queue ?? "")}`}><Foreign text={row.queue} /></A> }]),
        { key: "waiting", head: "Waiting", num: true, cell: (row) => count(row.waiting) },
        { key: "running", head: "Running", num: true, cell: (row) => count(row.running) },
        { key: "share", head: "Share", cell: (row) => <Meter value={row.waiting + (row.running ?? 0)} most={most} label={`${row.key}: ${row.waiting + (row.running ?? 0)} of the most ${most}`} /> },
      ]}
    />
  );
}

export function Queue({ name }: { name: string }) {
  useTitle(name);
  const { may_change } = useSession();
  const base = `/api/queues/${seg(name)}`;
  const { data, error, reload } = useData<QueueDetail>(base, {}, `queue:${name}`);
  const title = <Foreign text={name} />;
  if (!data) return <><PageHead title={title} />{error ? <Trouble error={error} retry={reload} /> : <Loading />}</>;
  const { row } = data;
  const paused = row.state === "paused";
  const change = async (act: string) => {
    await perform(async () => {
      const done = await post<Done>(`${base}/${act}`);
      return done.detail || `${name} is ${act === "pause" ? "paused" : "resumed"}`;
    });
    reload();
  };
  const askPause = () =>
    confirm({
      title: `Pause ${name}?`,
      body: <p>Workers claim no more of its tasks until it is resumed. {plural(row.running, "task")} that run{row.running === 1 ? "s" : ""} go on to the end.</p>,
      act: "Pause",
      run: async () => {
        const done = await post<Done>(`${base}/pause`);
        reload();
        return done.detail || `${name} is paused`;
      },
    });
  const askPurge = () =>
    confirm({
      title: `Purge ${name}?`,
      body: <p>This deletes the {plural(row.ready + row.delayed + row.blocked, "task")} that wait in <b class="mono">{name}</b>. It cannot be undone. Running tasks go on; dead letters stay.</p>,
      act: "Delete the waiting tasks",
      danger: true,
      typed: name,
      run: async () => {
        const done = await post<Done>(`${base}/purge`, { confirm: name });
        reload();
        return done.detail || `${count(done.count)} tasks were deleted`;
      },
    });

  return (
    <>
      <PageHead
        title={title}
        sub={row.state ? <><State state={row.state} />{row.problem && <> <Foreign text={row.problem} /></>}</> : <span class="faint">{plural(row.workers, "worker")} claim{row.workers === 1 ? "s" : ""} its tasks</span>}
      >
        {may_change && (
          <>
            {paused ? (
              <button type="button" class="primary" onClick={() => void change("resume")}>Resume</button>
            ) : (
              <button type="button" onClick={askPause}>Pause</button>
            )}
            <button type="button" class="danger" onClick={askPurge}>Purge …</button>
          </>
        )}
      </PageHead>
      {error && <Trouble error={error} retry={reload} />}
      <Problems lines={data.problems} />
      <dl class="stats" aria-label="Figures">
        <Stat label="Ready" value={count(row.ready)} note={row.ready ? `oldest ${duration(row.oldest_age_seconds)}` : "for a worker"} />
        <Stat label="Running" value={count(row.running)} note={plural(row.workers, "worker")} />
        <Stat label="Delayed" value={count(row.delayed)} note={row.parked ? `${count(row.parked)} for their key` : "for later"} />
        <Stat label="Blocked" value={count(row.blocked)} note="by other tasks" />
        <Stat label="In / out" value={`${rate(row.in_per_second)} / ${rate(row.out_per_second)}`} note="tasks a second" />
        <Stat label="Gone in" value={!row.ready || row.drains_in_seconds === null ? DASH : duration(row.drains_in_seconds)} note={!row.ready ? "nothing waits" : row.drains_in_seconds === null ? drainsNote(row) : "at this rate"} />
        <Stat label="Dead letters" href={`/dead?queue=${seg(name)}`} value={count(row.dead)} tone={row.dead ? "bad" : ""} />
      </dl>
      <Charts name={name} />
      <div class="columns">
        <Panel id="limits" title="Limits">
          {data.limits.length ? (
            <ul class="limits">
              {data.limits.map((limit) => (
                <li key={limit.name}>
                  <span><Foreign text={limit.name} /></span>
                  <span class="num">
                    {limit.used === null ? <span class="faint">at most </span> : <>{figure(limit.used)} of </>}
                    {figure(limit.limit)}
                    {limit.name.startsWith("rate") && <span class="faint"> a second</span>}
                  </span>
                  {limit.used !== null && <Meter value={limit.used} most={limit.limit} label={`${limit.name}: ${figure(limit.used)} of ${figure(limit.limit)}`} />}
                </li>
              ))}
            </ul>
          ) : (
            <Empty>{data.options ? "This queue has no limits." : "The dashboard does not know the application, so it knows no limits."}</Empty>
          )}
          {data.partitions.length > 1 && (
            <details>
              <summary>{plural(data.partitions.length, "partition")}</summary>
              <Table caption="Partitions" rows={data.partitions} rowKey={(each) => each.name} columns={[
                { key: "name", head: "Partition", cell: (each) => <Foreign text={each.name} /> },
                { key: "ready", head: "Ready", num: true, cell: (each) => count(each.ready) },
                { key: "running", head: "Running", num: true, cell: (each) => count(each.running) },
                { key: "delayed", head: "Delayed", num: true, cell: (each) => count(each.delayed) },
                { key: "dead", head: "Dead", num: true, cell: (each) => count(each.dead) },
              ]} />
            </details>
          )}
          {data.options && (
            <details>
              <summary>All options</summary>
              <Code text={pretty(data.options)} label="Options of the queue" />
            </details>
          )}
        </Panel>
        <Panel id="keys" title="Heaviest keys" aside={data.keys.whole ? undefined : <span class="tone-warn">of a part of the tasks</span>}>
          {data.keys.limit_keys.length || data.keys.fair_keys.length ? (
            <>
              {data.keys.limit_keys.length > 0 && <><h3>Limit keys</h3><KeyTable caption="Limit keys" rows={data.keys.limit_keys} queue={name} /></>}
              {data.keys.fair_keys.length > 0 && <><h3>Fair keys</h3><KeyTable caption="Fair keys" rows={data.keys.fair_keys} queue={name} /></>}
            </>
          ) : (
            <Empty>No waiting task has a limit key or a fair key.</Empty>
          )}
        </Panel>
      </div>
      <Panel id="tasks" title="Tasks">
        <TaskTable queue={name} states={data.states} />
      </Panel>
    </>
  );
}
