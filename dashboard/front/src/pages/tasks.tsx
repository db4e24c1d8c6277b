// Tasks by state, a page at a time, and the search for them.
import { useEffect, useState } from "preact/hooks";
import type { Page, TaskRow } from "../api/contract";
import { useData } from "../api/live";
import { DASH, count, plural } from "../format";
import { setQuery, usePlace } from "../router";
import { useTitle } from "../state";
import { Ago, Choice, Empty, Field, Foreign, Loading, Problems, QueueLink, State, TaskLink, Trouble } from "../ui/basics";
import { PageHead } from "../ui/shell";
import { CursorPager, Table, type Column } from "../ui/table";

const STATES = ["running", "ready", "delayed", "retrying", "blocked", "succeeded", "failed", "dead", "cancelled", "expired"];
const ENDED = ["succeeded", "failed", "cancelled", "expired"];
const SIZE = 50;
const SIZE_OF_QUEUE = 25;

const COLUMNS: Column<TaskRow>[] = [
  { key: "id", head: "Id", cell: (row) => <TaskLink id={row.id} /> },
  { key: "task", head: "Task", cell: (row) => (row.task ? <Foreign text={row.task} clip={60} /> : ENDED.includes(row.state) ? <span class="faint" title="Of a task that has ended, the result alone is kept">not kept</span> : <span class="faint">unreadable</span>) },
  { key: "state", head: "State", cell: (row) => <State state={row.state} /> },
  { key: "queue", head: "Queue", cell: (row) => <QueueLink name={row.queue} /> },
  { key: "enqueued", head: "Enqueued", cell: (row) => (row.enqueued_at ? <Ago at={row.enqueued_at} /> : DASH) },
  { key: "attempt", head: "Attempt", num: true, cell: (row) => count(row.attempt) },
  {
    key: "now",
    head: "What about it",
    wide: true,
    cell: (row) =>
      row.state === "running" ? (
        <>
          {row.started_at ? <>since <Ago at={row.started_at} />, </> : null}
          {row.worker ? <Foreign text={row.worker} /> : DASH}
        </>
      ) : !row.waiting && !row.error ? (
        DASH
      ) : (
        <>
          {row.waiting && <Foreign text={row.waiting} clip={160} />}
          {row.error && <span class="error-line mono"><Foreign text={row.error} clip={160} /></span>}
        </>
      ),
  },
  {
    key: "keys",
    head: "Keys",
    cell: (row) => {
      const keys = [["unique", row.unique_key], ["limit", row.limit_key], ["fair", row.fair_key]].filter(([, key]) => key);
      return keys.length ? keys.map(([kind, key]) => <span key={kind} class="tag" title={`${kind} key`}>{kind} <Foreign text={key} clip={24} /></span>) : DASH;
    },
  },
];

/** A listing with its filters in the address, so that it can be sent to somebody. */
export function TaskTable({ queue, states }: { queue?: string; states?: Record<string, number> }) {
  const { query } = usePlace();
  const wanted = { queue: queue ?? query.get("queue") ?? "", state: query.get("state") ?? "", task: query.get("task") ?? "", q: query.get("q") ?? "", key: query.get("key") ?? "" };
  const [trail, setTrail] = useState<string[]>([]);
  useEffect(() => setTrail([]), [JSON.stringify(wanted)]);
  const { data, error, reload } = useData<Page<TaskRow>>("/api/tasks", { ...wanted, cursor: trail.at(-1) ?? null, limit: queue ? SIZE_OF_QUEUE : SIZE }, queue && !trail.length ? `queue:${queue}` : "", true);
  const filtered = wanted.state || wanted.task || wanted.q || wanted.key || (!queue && wanted.queue);
  const columns = queue ? COLUMNS.filter((column) => column.key !== "queue") : COLUMNS;
  return (
    <>
      <div class="filters" role="search" aria-label="Filters">
        <Field label="Search" search placeholder="id, name, argument, error" value={wanted.q} onChange={(q) => setQuery({ q })} wait={400} />
        <Choice
          label="State"
          value={wanted.state}
          onChange={(state) => setQuery({ state })}
          options={[["", "all"], ...STATES.map((state): [string, string] => [state, states?.[state] === undefined ? state : `${state} (${count(states[state])})`])]}
        />
        <Field label="Task name" value={wanted.task} onChange={(task) => setQuery({ task })} wait={400} />
        <Field label="Key" placeholder="unique, limit, fair" value={wanted.key} onChange={(key) => setQuery({ key })} wait={400} />
        {!queue && <Field label="Queue" value={wanted.queue} onChange={(value) => setQuery({ queue: value })} wait={400} />}
        <button type="button" onClick={reload}>Refresh</button>
      </div>
      {error && <Trouble error={error} retry={reload} />}
      {!data && !error && <Loading />}
      {data && (
        <>
          <Problems lines={data.problems} />
          {data.items.length ? (
            <Table caption="Tasks" columns={columns} rows={data.items} rowKey={(row) => `${row.queue} ${row.id}`} />
          ) : (
            <Empty>
              {data.cursor ? "None on this page yet; the next page looks on." : filtered ? "No task matches." : "There are no tasks here. What has succeeded stays as long as its result."}
            </Empty>
          )}
          <CursorPager trail={trail} next={data.cursor} onChange={setTrail} note={data.examined ? `${plural(data.examined, "task")} looked at` : undefined} />
        </>
      )}
    </>
  );
}

export function Tasks() {
  useTitle("Tasks");
  return (
    <>
      <PageHead title="Tasks" sub="Of all queues: those that run, then those that wait, then those that have ended." />
      <section class="panel" aria-label="Tasks of all queues">
        <TaskTable />
      </section>
    </>
  );
}
