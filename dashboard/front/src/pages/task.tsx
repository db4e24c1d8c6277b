// One task: its life, what it holds, its errors, and the workflow that it is part of.
import { useState } from "preact/hooks";
import { post } from "../api/client";
import type { AttemptError, Done, LifeEvent, TaskDetail } from "../api/contract";
import { useData } from "../api/live";
import { count, duration, figure, parse, visible } from "../format";
import { seg } from "../router";
import { useSession, useTitle } from "../state";
import { A, Ago, At, Empty, Facts, Foreign, Loading, Notice, Panel, QueueLink, State, TaskLink, Trouble } from "../ui/basics";
import { Code, indented } from "../ui/data";
import { confirm, perform } from "../ui/dialog";
import { Workflow } from "../ui/graph";
import { PageHead } from "../ui/shell";

const EVENTS: Record<string, string> = {
  enqueued: "plain", ready: "plain", due: "plain", waiting: "warn", claimed: "info", progress: "info",
  "attempt failed": "bad", "retry due": "warn", ended: "plain",
};

/** The life of a task, with the time between events. */
function Life({ events, state }: { events: LifeEvent[]; state: string }) {
  const last = events.length - 1;
  return (
    <ol class="life">
      {events.map((event, i) => {
        const at = parse(event.at);
        const before = parse(events[i - 1]?.at);
        const gap = at && before ? (at.getTime() - before.getTime()) / 1000 : null;
        const tone = event.what === "ended" ? (["failed", "dead"].includes(state) ? "bad" : state === "succeeded" ? "good" : "plain") : (EVENTS[event.what] ?? "plain");
        return (
          <li key={i} class={`tone-${tone}`} aria-current={i === last ? "step" : undefined}>
            <span class="life-gap">{gap !== null && gap > 0 ? `+${duration(gap)}` : ""}</span>
            <span class="life-dot" aria-hidden="true" />
            <div>
              <b>
                <Foreign text={event.what} />
              </b>
              {event.attempt !== null && <span class="faint"> attempt {count(event.attempt)}</span>}
              {event.worker && <span class="faint"> by <Foreign text={event.worker} /></span>}
              <div class="small faint">{event.at ? <At at={event.at} /> : "when is not kept"}</div>
              {event.detail && <p class="life-detail"><Foreign text={event.detail} clip={400} /></p>}
            </div>
          </li>
        );
      })}
    </ol>
  );
}

export function Attempts({ errors }: { errors: AttemptError[] }) {
  return (
    <ol class="attempts">
      {[...errors].reverse().map((each, i) => (
        <li key={`${each.attempt} ${each.at}`}>
          <details open={i === 0}>
            <summary>
              <State state="failed">Attempt {count(each.attempt)}</State> <Foreign text={each.reason} />
              <span class="faint"> <Ago at={each.at} />{each.worker && <> by <Foreign text={each.worker} /></>}{each.retry_at && <>, tried again from <At at={each.retry_at} /></>}{each.trace_id && <>, trace <code>{each.trace_id}</code></>}</span>
              <p class="error-line mono"><Foreign text={each.error} clip={400} /></p>
            </summary>
            {each.traceback ? <Code text={each.traceback} label={`Traceback of attempt ${each.attempt}`} /> : <p class="faint">No traceback was kept.</p>}
          </details>
        </li>
      ))}
    </ol>
  );
}

export function Payload({ task }: { task: TaskDetail }) {
  return (
    <Panel id="payload" title="Arguments" aside={task.masked.length ? <span class="faint">masked: <Foreign text={task.masked.join(", ")} /></span> : undefined}>
      {task.args === null && task.kwargs === null ? (
        <Empty>{task.problem ? <Foreign text={task.problem} /> : "The arguments are not kept any more."}</Empty>
      ) : (
        <>
          {task.args !== null && task.args !== "[]" && <Code text={indented(task.args)} label="Positional arguments" />}
          {task.kwargs !== null && task.kwargs !== "{}" && <Code text={indented(task.kwargs)} label="Named arguments" />}
          {(task.args === "[]" || task.args === null) && (task.kwargs === "{}" || task.kwargs === null) && <Empty>It has no arguments.</Empty>}
        </>
      )}
    </Panel>
  );
}

const ENDED = ["succeeded", "failed", "dead", "cancelled", "expired", "unknown"];

export function Task({ id }: { id: string }) {
  const { may_change } = useSession();
  const { data, error, reload } = useData<TaskDetail>(`/api/tasks/${seg(id)}`, {}, `task:${id}`);
  useTitle(data?.task ?? id);
  const [changes, setChanges] = useState(0);
  if (!data) return <><PageHead title="Task" sub={<Foreign text={id} mono />} />{error ? <Trouble error={error} retry={reload} /> : <Loading />}</>;

  const act = (what: "cancel" | "retry") => async () => {
    const done = await post<Done>(`/api/tasks/${seg(id)}/${what}`);
    reload();
    setChanges((n) => n + 1);
    return done.detail || (done.changed ? (what === "cancel" ? "The task is cancelled" : "The task is back in its queue") : "Nothing had to be changed");
  };
  const ended = ENDED.includes(data.state);
  const letter = data.state === "failed" || data.state === "dead";
  const progress = data.progress;
  return (
    <>
      <PageHead
        title={data.task ? <Foreign text={data.task} /> : data.state === "unreadable" || data.problem ? "Unreadable task" : <span class="mono">{visible(data.id)}</span>}
        sub={<><State state={data.state} /> in <QueueLink name={data.queue} /> · <Foreign text={data.id} mono /></>}
      >
        {may_change && !ended && (
          <button
            type="button"
            class="danger"
            onClick={() =>
              confirm({
                title: "Cancel this task?",
                body: <p>{data.state === "running" ? "Its worker stops it. What it has done so far stays done." : "It will not run."} Tasks that wait for it are cancelled too.</p>,
                act: "Cancel the task",
                danger: true,
                run: act("cancel"),
              })
            }
          >
            Cancel …
          </button>
        )}
        {may_change && letter && (
          <button type="button" class="primary" onClick={() => void perform(act("retry"))}>
            Retry
          </button>
        )}
      </PageHead>
      {error && <Trouble error={error} retry={reload} />}
      {data.problem && <Notice tone="warn"><span class="glyph" aria-hidden="true">!</span><Foreign text={data.problem} /></Notice>}
      {data.waiting && <Notice><span class="glyph" aria-hidden="true">◷</span><Foreign text={data.waiting} /></Notice>}
      {data.error && ended && <Notice tone="bad"><span class="glyph" aria-hidden="true">✕</span><span class="mono"><Foreign text={data.error} clip={1000} /></span></Notice>}
      {progress && (
        <div class="progress-row">
          <progress max={1} {...(progress.fraction === null ? {} : { value: progress.fraction })} aria-label="Progress" />
          <span>
            {figure(progress.done)}
            {progress.total !== null && <> of {figure(progress.total)}</>} {progress.note && <Foreign text={progress.note} />} <span class="faint"><Ago at={progress.at} /></span>
          </span>
        </div>
      )}
      <div class="columns">
        <Panel id="life" title="Life">
          {data.life.length ? <Life events={data.life} state={data.state} /> : <Empty>Nothing of its life is kept.</Empty>}
        </Panel>
        <div>
          <Payload task={data} />
          {data.result !== null && (
            <Panel id="result" title="Result">
              <Code text={indented(data.result)} label="The result, as JSON" />
            </Panel>
          )}
          <Panel id="facts" title="Facts">
            <Facts
              rows={[
                data.attempt !== null && ["Attempt", <>{count(data.attempt)}{data.max_retries !== null && <> of {count(data.max_retries + 1)}</>}</>],
                data.deliveries !== null && ["Claims", count(data.deliveries)],
                Boolean(data.worker) && ["Worker", <Foreign key="w" text={data.worker} />],
                data.lease_expires_at !== null && ["Lease until", <At key="l" at={data.lease_expires_at} />],
                Boolean(data.enqueued_by) && ["Enqueued by", <Foreign key="b" text={data.enqueued_by} />],
                data.parent !== null && ["Sent by task", <TaskLink key="p" id={data.parent} />],
                data.due_at !== null && ["Due", <At key="d" at={data.due_at} />],
                data.unique_key !== null && ["Unique key", <Foreign key="u" text={data.unique_key} />],
                data.limit_key !== null && ["Limit key", <A key="k" href={`/tasks?queue=${seg(data.queue)}&key=${seg(data.limit_key)}`}><Foreign text={data.limit_key} /></A>],
                data.fair_key !== null && ["Fair key", <A key="f" href={`/tasks?queue=${seg(data.queue)}&key=${seg(data.fair_key)}`}><Foreign text={data.fair_key} /></A>],
                data.reason !== null && ["Reason", <Foreign key="r" text={data.reason} />],
              ]}
            />
          </Panel>
        </div>
      </div>
      {data.errors.length > 0 && (
        <Panel id="errors" title="Errors of its attempts">
          <Attempts errors={data.errors} />
        </Panel>
      )}
      {data.traceback && data.traceback !== data.errors.at(-1)?.traceback && (
        <Panel id="traceback" title="Traceback of its end">
          <Code text={data.traceback} label="Traceback" />
        </Panel>
      )}
      <Workflow id={data.id} version={`${data.state} ${changes}`} />
    </>
  );
}
