// Questions before changes, and what became of them.
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { message } from "../api/client";
import { visible } from "../format";
import { Foreign, useNow } from "./basics";

interface Question {
  title: string;
  body: ComponentChildren;
  act: string;
  danger?: boolean;
  typed?: string;
  run: () => Promise<string | void>;
}

let ask: (question: Question) => void = () => undefined;
let say: (text: string, bad?: boolean) => void = () => undefined;

/** Ask before `run`. With `typed`, the reader must type that text first. */
export function confirm(question: Question): void {
  ask(question);
}

export function toast(text: string, bad = false): void {
  say(text, bad);
}

/** Run an action and say how it ended. */
export async function perform(run: () => Promise<string | void>): Promise<boolean> {
  try {
    const said = await run();
    if (said) toast(said);
    return true;
  } catch (error) {
    toast(message(error), true);
    return false;
  }
}

export function Modal({ title, children, onClose, wide = false }: { title: ComponentChildren; children: ComponentChildren; onClose: () => void; wide?: boolean }) {
  const id = useId();
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const before = document.activeElement;
    box.current?.showModal();
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={box}
      class={wide ? "modal modal-wide" : "modal"}
      aria-labelledby={id}
      onClose={onClose}
      onClick={(event) => {
        if (event.target === box.current) box.current?.close();
      }}
    >
      <div class="modal-body">
        <h2 id={id}>{title}</h2>
        {children}
      </div>
    </dialog>
  );
}

export function Dialogs() {
  const [question, setQuestion] = useState<Question | null>(null);
  const [typed, setTyped] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const [toasts, setToasts] = useState<{ id: number; text: string; bad: boolean }[]>([]);
  const now = useNow();
  const open = useRef<Question | null>(null);
  open.current = question;

  useEffect(() => {
    ask = (next) => {
      setTyped("");
      setError("");
      setBusy(false);
      setQuestion(next);
    };
    say = (text, bad = false) => setToasts((list) => [...list.slice(-2), { id: Date.now() + Math.random(), text, bad }]);
  }, []);
  // Errors stay until they are closed; what went well says so for some seconds.
  const shown = toasts.filter((each) => each.bad || now - each.id < 6000);

  const run = async () => {
    if (!question) return;
    setBusy(true);
    try {
      const said = await question.run();
      setQuestion((now) => (now === question ? null : now));
      if (said) toast(said);
    } catch (problem) {
      // Who has closed the question, or asks another by now, is told all the same.
      if (open.current !== question) return toast(message(problem), true);
      setError(message(problem));
      setBusy(false);
    }
  };

  return (
    <>
      {question && (
        <Modal title={visible(question.title)} onClose={() => setQuestion(null)}>
          <form
            onSubmit={(event) => {
              event.preventDefault();
              void run();
            }}
          >
            <div class="prose">{question.body}</div>
            {question.typed && (
              <label class="field field-block">
                <span>
                  Type <b class="mono">{question.typed}</b> to confirm
                </span>
                <input type="text" value={typed} autocomplete="off" spellcheck={false} onInput={(event) => setTyped(event.currentTarget.value)} />
              </label>
            )}
            {error && (
              <p class="tone-bad" role="alert">
                <Foreign text={error} />
              </p>
            )}
            <div class="modal-acts">
              <button type="button" onClick={() => setQuestion(null)}>
                Cancel
              </button>
              <button type="submit" class={question.danger ? "danger" : "primary"} disabled={busy || (Boolean(question.typed) && typed !== question.typed)}>
                {question.act}
              </button>
            </div>
          </form>
        </Modal>
      )}
      <div class="toasts" role="status" aria-live="polite">
        {shown.map((each) => (
          <div key={each.id} class={`toast tone-${each.bad ? "bad" : "good"}`}>
            <span class="glyph" aria-hidden="true">
              {each.bad ? "✕" : "✓"}
            </span>
            <Foreign text={each.text} />
            <button type="button" class="quiet" aria-label="Close this message" onClick={() => setToasts((list) => list.filter((other) => other.id !== each.id))}>
              ×
            </button>
          </div>
        ))}
      </div>
    </>
  );
}
