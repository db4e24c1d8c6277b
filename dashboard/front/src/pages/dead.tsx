// Dead letters: find, inspect, requeue or discard one, many or all that match.
import { useEffect, useState } from "preact/hooks";
import { post } from "../api/client";
import type { DeadDetail, DeadRow, JobStarted, Page } from "../api/contract";
import { useData } from "../api/live";
import { count, parse, plural, visible } from "../format";
import { seg, setQuery, usePlace } from "../router";
import { useSession, useTitle } from "../state";
import { A, Ago, At, Empty, Facts, Field, Foreign, Loading, Problems, QueueLink, Trouble } from "../ui/basics";
import { Code } from "../ui/data";
import { Modal, confirm, toast } from "../ui/dialog";
import { JobPanel } from "../ui/job";
import { PageHead } from "../ui/shell";
import { CursorPager, Table } from "../ui/table";
import { Attempts, Payload } from "./task";

type Act = "requeue" | "discard";

const MOST_JOBS = 8;

function Letter({ id, onClose, onAct, mayChange }: { id: string; onClose: () => void; onAct: (act: Act) => void; mayChange: boolean }) {
  const { data, error, reload } = useData<DeadDetail>(`/api/dead/${seg(id)}`);
  return (
    <Modal title={data?.task ? <Foreign text={data.task} /> : "Dead letter"} onClose={onClose} wide>
      {error && <Trouble error={error} retry={reload} />}
      {!data && !error && <Loading />}
      {data && (
        <>
          <p><A href={`/tasks/${seg(id)}`} class="mono id"><Foreign text={id} /></A> in <QueueLink name={data.queue} /></p>
          <p class="error-line mono tone-bad"><Foreign text={data.error} clip={2000} /></p>
          <Facts rows={[
            ["Reason", <Foreign key="r" text={data.reason} />],
            ["Attempts", count(data.attempts)],
            ["Claims", count(data.deliveries)],
            ["Enqueued", <At key="e" at={data.enqueued_at} />],
            ["Died", <At key="d" at={data.died_at} />],
          ]} />
          <Payload task={data} />
          {data.traceback && <><h3>Traceback</h3><Code text={data.traceback} label="Traceback" /></>}
          {data.errors.length > 1 && <><h3>Errors of its attempts</h3><Attempts errors={data.errors} /></>}
          <div class="modal-acts">
            <button type="button" onClick={onClose}>Close</button>
            {mayChange && (
              <>
                <button type="button" class="danger" onClick={() => onAct("discard")}>Discard …</button>
                <button type="button" class="primary" onClick={() => onAct("requeue")}>Requeue …</button>
              </>
            )}
          </div>
        </>
      )}
    </Modal>
  );
}

/** `datetime-local` is the reader's time; the API takes UTC. */
const utc = (text: string): string | null => (text ? (parse(text)?.toISOString() ?? null) : null);

export function Dead() {
  useTitle("Dead letters");
  const { may_change } = useSession();
  const { query } = usePlace();
  const text = (name: string) => query.get(name) ?? "";
  const filter = { queue: text("queue"), task: text("task"), reason: text("reason"), q: text("q"), since: utc(text("since")), until: utc(text("until")) };
  const key = JSON.stringify(filter);
  const [trail, setTrail] = useState<string[]>([]);
  const [chosen, setChosen] = useState<Map<string, DeadRow>>(new Map());
  const [opened, setOpened] = useState<DeadRow | null>(null);
  const [jobs, setJobs] = useState<string[]>([]);
  useEffect(() => {
    setTrail([]);
    setChosen(new Map());
  }, [key]);
  const { data, error, reload } = useData<Page<DeadRow>>("/api/dead", { ...filter, cursor: trail.at(-1) ?? null, limit: 50 }, "dead", true);
  const filtered = Object.values(filter).some(Boolean);

  const start = async (act: Act, orders: object[]) => {
    const started: string[] = [];
    for (const order of orders) {
      started.push((await post<JobStarted>(`/api/dead/${act}`, order)).job);
      // At once: when the next is refused, these run all the same, and have their way back.
      setJobs((old) => [...started, ...old.filter((job) => !started.includes(job))].slice(0, MOST_JOBS));
    }
    setChosen(new Map());
    setOpened(null);
  };
  /** One order a queue: ids are those of one queue. */
  const orders = (rows: DeadRow[]) => {
    const queues = new Map<string, string[]>();
    for (const row of rows) queues.set(row.queue, [...(queues.get(row.queue) ?? []), row.id]);
    return [...queues].map(([queue, ids]) => ({ queue, ids }));
  };
  const explain = (act: Act) =>
    act === "requeue" ? "They run again, with all their attempts before them." : "They are deleted. For ten minutes this can be undone, as far as there is room to keep them.";
  const askSome = (act: Act, rows: DeadRow[]) => {
    const each = orders(rows);
    if (each.length > MOST_JOBS) return toast(`These are of ${each.length} queues, and ${MOST_JOBS} at a time is the most: choose fewer`, true);
    confirm({
      title: `${act === "requeue" ? "Requeue" : "Discard"} ${plural(rows.length, "dead letter")}?`,
      body: <p>{explain(act)}</p>,
      act: act === "requeue" ? "Requeue" : "Discard",
      danger: act === "discard",
      run: () => start(act, each),
    });
  };
  const askAll = (act: Act) => {
    const match = Object.fromEntries(Object.entries(filter).filter(([, value]) => value));
    confirm({
      title: `${act === "requeue" ? "Requeue" : "Discard"} all that match?`,
      body: (
        <>
          <p>{filtered ? "All dead letters that match now:" : "All dead letters of all queues."}</p>
          {filtered && <ul>{Object.entries(match).map(([name, value]) => <li key={name}>{name}: <b class="mono"><Foreign text={value} /></b></li>)}</ul>}
          <p>{explain(act)}</p>
        </>
      ),
      act: act === "requeue" ? "Requeue all" : "Discard all",
      danger: act === "discard",
      ...(act === "discard" && !filtered ? { typed: "all" } : {}),
      run: () => start(act, [{ match }]),
    });
  };
  const rows = data?.items ?? [];
  const all = rows.length > 0 && rows.every((row) => chosen.has(row.id));
  const toggle = (list: DeadRow[], on: boolean) =>
    setChosen((old) => {
      const next = new Map(old);
      for (const row of list) on ? next.set(row.id, row) : next.delete(row.id);
      return next;
    });

  return (
    <>
      <PageHead title="Dead letters" sub="Tasks that ended for good without a result." />
      {jobs.map((job) => <JobPanel key={job} id={job} onClose={() => setJobs((old) => old.filter((each) => each !== job))} onChange={reload} />)}
      <section class="panel" aria-label="Dead letters">
        <div class="filters" role="search" aria-label="Filters">
          <Field label="Search" search placeholder="error, name, id" value={filter.q} onChange={(q) => setQuery({ q })} wait={400} />
          <Field label="Queue" value={filter.queue} onChange={(queue) => setQuery({ queue })} wait={400} />
          <Field label="Task name" value={filter.task} onChange={(task) => setQuery({ task })} wait={400} />
          <Field label="Reason" value={filter.reason} onChange={(reason) => setQuery({ reason })} wait={400} list={["exception", "timeout", "crashed", "max_deliveries", "unknown_task", "undecodable", "bad_arguments", "bad_result", "bad_signature", "result_too_large", "too_large"]} />
          <Field label="From" type="datetime-local" value={text("since")} onChange={(since) => setQuery({ since })} wait={400} />
          <Field label="Before" type="datetime-local" value={text("until")} onChange={(until) => setQuery({ until })} wait={400} />
        </div>
        {may_change && (
          <div class="bulk" role="group" aria-label="Changes">
            <label class="check">
              <input type="checkbox" checked={all} disabled={!rows.length} onChange={(event) => toggle(rows, event.currentTarget.checked)} />
              <span>{chosen.size ? `${chosen.size} chosen` : "Choose this page"}</span>
            </label>
            <button type="button" disabled={!chosen.size} onClick={() => askSome("requeue", [...chosen.values()])}>Requeue chosen</button>
            <button type="button" class="danger" disabled={!chosen.size} onClick={() => askSome("discard", [...chosen.values()])}>Discard chosen</button>
            <span class="bulk-gap" />
            <button type="button" disabled={!rows.length} onClick={() => askAll("requeue")}>Requeue all that match …</button>
            <button type="button" class="danger" disabled={!rows.length} onClick={() => askAll("discard")}>Discard all that match …</button>
          </div>
        )}
        {error && <Trouble error={error} retry={reload} />}
        {!data && !error && <Loading />}
        {data && <Problems lines={data.problems} />}
        {data &&
          (rows.length ? (
            <Table
              caption="Dead letters"
              rows={rows}
              rowKey={(row) => `${row.queue} ${row.id}`}
              rowHead="task"
              columns={[
                ...(may_change
                  ? [{ key: "choose", head: "Choose", cell: (row: DeadRow) => <input type="checkbox" aria-label={`Choose ${visible(row.id)}`} checked={chosen.has(row.id)} onChange={(event) => toggle([row], event.currentTarget.checked)} /> }]
                  : []),
                {
                  key: "task",
                  head: "Task",
                  cell: (row: DeadRow) => (
                    <button type="button" class="linky" onClick={() => setOpened(row)}>
                      {row.task ? <Foreign text={row.task} clip={60} /> : "unreadable"}
                      <span class="sr"> {visible(row.id)}, inspect</span>
                    </button>
                  ),
                },
                { key: "queue", head: "Queue", cell: (row) => <QueueLink name={row.queue} /> },
                { key: "reason", head: "Reason", cell: (row) => <Foreign text={row.reason} clip={40} /> },
                { key: "error", head: "Error", wide: true, cell: (row) => <span class="error-line mono"><Foreign text={row.error} clip={200} /></span> },
                { key: "attempts", head: "Attempts", num: true, cell: (row) => count(row.attempts) },
                { key: "died", head: "Died", cell: (row) => <Ago at={row.died_at} /> },
              ]}
            />
          ) : (
            <Empty>{data.cursor ? "None on this page yet; the next page looks on." : filtered ? "No dead letter matches." : "There are no dead letters."}</Empty>
          ))}
        {data && <CursorPager trail={trail} next={data.cursor} onChange={setTrail} note={data.examined ? `${plural(data.examined, "letter")} looked at` : undefined} />}
      </section>
      {opened && (
        <Letter
          id={opened.id}
          mayChange={may_change}
          onClose={() => setOpened(null)}
          onAct={(act) => {
            const row = opened;
            setOpened(null);
            askSome(act, [row]);
          }}
        />
      )}
    </>
  );
}
