// Schedules: what runs tonight, and how it went last time.
import { post } from "../api/client";
import type { Done, Page, ScheduleRow } from "../api/contract";
import { useData } from "../api/live";
import { DASH, count, duration, inZone, parse, visible } from "../format";
import { seg } from "../router";
import { useSession, useTitle } from "../state";
import { A, Ago, Empty, Foreign, Loading, QueueLink, State, Trouble, useNow } from "../ui/basics";
import { confirm, perform } from "../ui/dialog";
import { PageHead } from "../ui/shell";
import { Table, type Column } from "../ui/table";

function Ticks({ row }: { row: ScheduleRow }) {
  const now = useNow();
  if (row.paused) return <span class="faint">none while it is paused</span>;
  const next = row.next.map(parse).filter((each) => each !== null);
  if (!next.length) return <span class="faint">{DASH}</span>;
  return (
    <ol class="ticks">
      {next.map((at, i) => (
        <li key={at.getTime()} class={i ? "faint" : ""}>
          <time dateTime={at.toISOString()} title={at.toISOString()}>{inZone(at, row.time_zone)}</time>
          {i === 0 && <span class="faint"> in {duration(Math.max(0, Math.round((at.getTime() - now) / 1000)))}</span>}
        </li>
      ))}
    </ol>
  );
}

export function Schedules() {
  useTitle("Schedules");
  const { may_change } = useSession();
  const { data, error, reload } = useData<Page<ScheduleRow>>("/api/schedules", {}, "schedules");
  const act = (row: ScheduleRow, what: "run" | "pause" | "resume", said: string) => async () => {
    const done = await post<Done>(`/api/schedules/${seg(row.queue)}/${seg(row.name)}/${what}`);
    reload();
    return what === "run" ? `${row.name} runs now: task ${done.detail}` : done.detail || said;
  };
  const columns: Column<ScheduleRow>[] = [
    {
      key: "name",
      head: "Schedule",
      cell: (row) => (
        <>
          <Foreign text={row.name} />
          {row.owner && <span class="tag" title="The TaskQueue resource that keeps it; change it there"><Foreign text={row.owner.replace(/\/+$/, "")} /></span>}
          {row.problem && <p class="tone-bad small"><Foreign text={row.problem} /></p>}
        </>
      ),
    },
    { key: "task", head: "Task", cell: (row) => <><Foreign text={row.task} /> <span class="faint">in <QueueLink name={row.queue} /></span></> },
    { key: "when", head: "When", cell: (row) => <><span class="mono"><Foreign text={row.schedule} /></span> <span class="faint"><Foreign text={row.time_zone} /></span></> },
    { key: "next", head: "Next ticks, in its zone", cell: (row) => <Ticks row={row} /> },
    {
      key: "last",
      head: "Last",
      cell: (row) =>
        row.last_at ? (
          <>
            <Ago at={row.last_at} />{" "}
            {row.last_outcome ? <State state={row.last_outcome} /> : <span class="faint">nothing kept of it</span>}
            {row.last_task_id && <> <A href={`/tasks/${seg(row.last_task_id)}`}>task<span class="sr"> of {visible(row.name)}</span></A></>}
          </>
        ) : (
          <span class="faint">never</span>
        ),
    },
    { key: "skipped", head: "Skipped", num: true, hint: "Ticks that were skipped or dropped", cell: (row) => <span class={row.skipped_total + row.dropped_total ? "tone-warn" : "faint"}>{count(row.skipped_total + row.dropped_total)}</span> },
    { key: "state", head: "State", cell: (row) => (row.paused ? <State state="paused" /> : <span class="faint">on</span>) },
  ];
  if (may_change) {
    columns.push({
      key: "acts",
      head: "",
      cell: (row) => (
        <div class="row-acts">
          <button
            type="button"
            onClick={() => confirm({ title: `Run ${row.name} now?`, body: <p>Its task goes to the queue <b class="mono"><Foreign text={row.queue} /></b> at once, beside its ticks.</p>, act: "Run now", run: act(row, "run", "") })}
          >
            Run now<span class="sr"> {visible(row.name)}</span>
          </button>
          <button type="button" disabled={Boolean(row.owner)} title={row.owner ? `${visible(row.owner)} keeps it: change it there` : undefined} onClick={() => void perform(act(row, row.paused ? "resume" : "pause", `${row.name} is ${row.paused ? "on again" : "paused"}`))}>
            {row.paused ? "Resume" : "Pause"}<span class="sr"> {visible(row.name)}</span>
          </button>
        </div>
      ),
    });
  }
  const rows = [...(data?.items ?? [])].sort((a, b) => (a.next[0] ?? "9").localeCompare(b.next[0] ?? "9"));
  return (
    <>
      <PageHead title="Schedules" sub="The next to run comes first." />
      {error && <Trouble error={error} retry={reload} />}
      {!data && !error && <Loading />}
      {data && (
        <section class="panel" aria-label="Schedules">
          {rows.length ? <Table caption="Schedules" columns={columns} rows={rows} rowKey={(row) => `${row.queue} ${row.name}`} /> : <Empty>There are no schedules. <code>taskfleet schedules add</code> makes one.</Empty>}
        </section>
      )}
    </>
  );
}
