// Workers: who they are, what they run, since when.
import { useState } from "preact/hooks";
import { post } from "../api/client";
import type { Done, Page, WorkerRow } from "../api/contract";
import { useData } from "../api/live";
import { count, duration, plural, visible } from "../format";
import { seg } from "../router";
import { useSession, useTitle } from "../state";
import { Ago, Empty, Field, Foreign, Loading, Meter, QueueLink, State, TaskLink, Trouble } from "../ui/basics";
import { confirm, perform } from "../ui/dialog";
import { PageHead } from "../ui/shell";
import { Pager, Table, type Column } from "../ui/table";

const SIZE = 100;
const SKEW_SECONDS = 1;
const LATE_SECONDS = 15;

export function Workers() {
  useTitle("Workers");
  const { data, error, reload } = useData<Page<WorkerRow>>("/api/workers", {}, "workers");
  const [search, setSearch] = useState("");
  const [offset, setOffset] = useState(0);
  const { may_change } = useSession();
  const act = (row: WorkerRow, what: "cordon" | "uncordon") => async () => {
    const done = await post<Done>(`/api/workers/${seg(row.name)}/${what}`);
    reload();
    return done.detail || `${row.name} is ${what === "cordon" ? "cordoned" : "no longer cordoned"}`;
  };
  const columns: Column<WorkerRow>[] = [
    { key: "id", head: "Worker", cell: (row) => <><span class="nowrap-wide"><Foreign text={row.id} clip={80} /></span><span class="row-note faint">{row.host && row.host !== row.name && <>on <Foreign text={row.host} clip={60} />, </>}process {row.pid}</span></> },
    { key: "state", head: "State", cell: (row) => <><State state={row.state === "running" ? (row.busy ? "busy" : "idle") : row.state} />{row.stuck > 0 && <span class="tone-bad"> {plural(row.stuck, "slot")} stuck</span>}</> },
    { key: "slots", head: "Slots", cell: (row) => <span class="slots"><Meter value={row.busy} most={row.slots} label={`${row.busy} of ${row.slots} slots busy`} /> {count(row.busy)}/{count(row.slots)}</span> },
    {
      key: "runs",
      head: "Runs",
      wide: true,
      cell: (row) =>
        row.runs.length ? (
          <ul class="runs">
            {row.runs.slice(0, 5).map((run) => (
              <li key={run.id}>
                {run.task ? <Foreign text={run.task} clip={40} /> : "a task"} <TaskLink id={run.id} /> <span class="faint">for {duration(run.seconds)}</span>
              </li>
            ))}
            {row.runs.length > 5 && <li class="faint">and {row.runs.length - 5} more</li>}
          </ul>
        ) : (
          <span class="faint">{row.busy ? "short tasks" : "nothing"}</span>
        ),
    },
    { key: "queues", head: "Queues", cell: (row) => <>{row.queues.slice(0, 6).map((name) => <span key={name} class="tag"><QueueLink name={name} /></span>)}{row.queues.length > 6 && <span class="faint">and {row.queues.length - 6} more</span>}</> },
    { key: "since", head: "Started", cell: (row) => <Ago at={row.started_at} /> },
    { key: "beat", head: "Heartbeat", num: true, cell: (row) => <span class={row.heartbeat_age_seconds > LATE_SECONDS ? "tone-warn" : ""}>{duration(row.heartbeat_age_seconds)}</span> },
    { key: "skew", head: "Clock", num: true, hint: "How far its clock is from that of Redis", cell: (row) => Math.abs(row.clock_skew_seconds) > SKEW_SECONDS ? <span class="tone-warn">{row.clock_skew_seconds > 0 ? "+" : "−"}{duration(Math.abs(row.clock_skew_seconds))}</span> : <span class="faint">right</span> },
    { key: "version", head: "Version", cell: (row) => <Foreign text={row.version || "unknown"} /> },
  ];
  if (may_change) {
    columns.push({
      key: "acts",
      head: "",
      cell: (row) =>
        row.state === "cordoned" || row.state === "drained" ? (
          <div class="row-acts">
            <button type="button" onClick={() => void perform(act(row, "uncordon"))}>
              Uncordon<span class="sr"> {visible(row.name)}</span>
            </button>
          </div>
        ) : row.state === "running" ? (
          <div class="row-acts">
            <button
              type="button"
              onClick={() =>
                confirm({
                  title: `Cordon ${row.name}?`,
                  body: <p>It claims nothing more, for a day or until it is uncordoned. The tasks that it runs go on; when none is left, its state is <b>drained</b>.</p>,
                  act: "Cordon",
                  run: act(row, "cordon"),
                })
              }
            >
              Cordon<span class="sr"> {visible(row.name)}</span>
            </button>
          </div>
        ) : null,
    });
  }
  const found = (data?.items ?? []).filter((row) => [row.id, row.host, row.state, row.version, ...row.queues].some((text) => text.includes(search)));
  const rows = found.slice(offset, offset + SIZE);
  return (
    <>
      <PageHead title="Workers" sub={data ? `${plural(data.items.length, "worker process", "worker processes")} with a heartbeat` : undefined} />
      {error && <Trouble error={error} retry={reload} />}
      {!data && !error && <Loading />}
      {data && (
        <section class="panel" aria-label="Workers">
          <div class="filters" role="search" aria-label="Filters">
            <Field label="Search" search placeholder="name, host, queue, state" value={search} onChange={(value) => { setSearch(value); setOffset(0); }} />
          </div>
          {rows.length ? (
            <Table
              caption="Workers"
              rows={rows}
              rowKey={(row) => row.id}
              columns={columns}
            />
          ) : (
            <Empty>{search ? "No worker matches." : "No worker has a heartbeat. Start one with taskfleet worker."}</Empty>
          )}
          <Pager offset={offset} size={SIZE} total={found.length} onChange={setOffset} />
        </section>
      )}
    </>
  );
}
