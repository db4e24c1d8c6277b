// A job over many dead letters: how far it is, and the way back.
import { useEffect, useState } from "preact/hooks";
import { post } from "../api/client";
import type { Job } from "../api/contract";
import { useData } from "../api/live";
import { clock, count, duration, parse, plural } from "../format";
import { seg } from "../router";
import { Foreign, Trouble, useNow } from "./basics";
import { perform } from "./dialog";

export function JobPanel({ id, onClose, onChange }: { id: string; onClose: () => void; onChange: () => void }) {
  const { data, error, reload } = useData<Job>(`/api/jobs/${seg(id)}`, {}, `job:${id}`);
  const [asked, setAsked] = useState(false);
  const now = useNow();
  useEffect(() => {
    if (data && data.state !== "running") onChange();
  }, [data?.state]);
  if (!data) return error ? <Trouble error={error} retry={reload} /> : null;
  const until = parse(data.undo_until);
  const left = until ? (until.getTime() - now) / 1000 : 0;
  const verb = data.action === "discard" ? "discarded" : "requeued";
  const words: Record<string, string> = {
    running: `${count(data.done)}${data.total === null ? "" : ` of ${count(data.total)}`} ${verb} …`,
    done: `${plural(data.done, "dead letter")} ${verb}.`,
    failed: `Stopped after ${count(data.done)} ${verb}.`,
    undone: `Undone: the dead letters are back.`,
  };
  return (
    <section class={`notice job tone-${data.state === "failed" ? "bad" : data.state === "running" ? "info" : "good"}`} aria-label="Job" data-job={data.state}>
      <div class="job-words" role="status">
        <b>{words[data.state] ?? data.state}</b>
        {data.stayed > 0 && <span> {count(data.stayed)} stay: cancelled, damaged, or their unique key is taken.</span>}
        {data.error && <p class="mono"><Foreign text={data.error} /></p>}
        {error && <p class="tone-bad"><Foreign text={error} /></p>}
        {until && left > 0 && (
          <p class="faint small">
            {data.undoable < data.done ? `${plural(data.undoable, "letter")} can come back` : "They can come back"} until {clock(until)} ({duration(Math.round(left))}).
          </p>
        )}
      </div>
      {data.state === "running" && <progress max={Math.max(1, data.total ?? 1)} {...(data.total === null ? {} : { value: data.done })} aria-label="Progress of the job" />}
      {until && left > 0 && (
        <button
          type="button"
          disabled={asked}
          onClick={() => {
            setAsked(true);
            void perform(async () => {
              await post(`/api/jobs/${seg(id)}/undo`);
              reload();
            }).then((done) => !done && setAsked(false));
          }}
        >
          Undo
        </button>
      )}
      {data.state !== "running" && <button type="button" class="quiet" aria-label="Close this message" onClick={onClose}>×</button>}
    </section>
  );
}
