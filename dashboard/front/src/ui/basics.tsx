// Small parts that all pages share.
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { DASH, parse, relative, stamp, visible } from "../format";
import { seg, url } from "../router";
import { GLYPHS, TONES } from "../words";

/** A link inside the dashboard. */
export function A({ href, children, ...rest }: { href: string; children: ComponentChildren } & { class?: string; title?: string | undefined; "aria-current"?: "page" | undefined }) {
  return (
    <a href={url(href)} {...rest}>
      {children}
    </a>
  );
}

/** Text that comes from a task or from Redis: always a text node, with what is invisible made visible. */
export function Foreign({ text, mono = false, clip = 0 }: { text: unknown; mono?: boolean; clip?: number }) {
  const all = visible(text);
  const cut = clip && all.length > clip ? `${all.slice(0, clip)}…` : all;
  return (
    <span class={mono ? "mono foreign" : "foreign"} dir="auto" title={cut === all ? undefined : all.slice(0, 2000)}>
      {cut}
    </span>
  );
}

export function QueueLink({ name }: { name: string }) {
  return (
    <A href={`/queues/${seg(name)}`}>
      <Foreign text={name} />
    </A>
  );
}

export function TaskLink({ id, short = true }: { id: string; short?: boolean }) {
  const text = visible(id);
  return (
    <A href={`/tasks/${seg(id)}`} class="mono id" title={text}>
      {short && text.length > 14 ? (
        // The middle has no size and is there all the same, so that who copies the id copies all of it.
        <>
          {text.slice(0, 6)}
          <span class="id-middle">{text.slice(6, -6)}</span>
          {text.slice(-6)}
        </>
      ) : (
        text
      )}
    </A>
  );
}

export function State({ state, children }: { state: string; children?: ComponentChildren }) {
  return (
    <span class={`state tone-${TONES[state] ?? "plain"}`}>
      <span class="glyph" aria-hidden="true">
        {GLYPHS[state] ?? "·"}
      </span>
      {children ?? visible(state)}
    </span>
  );
}

const tickers = new Set<() => void>();
let timer = 0;

/** The time of the reader's clock, renewed each second while someone looks. */
export function useNow(): number {
  const [now, set] = useState(Date.now());
  useEffect(() => {
    const tick = () => set(Date.now());
    tickers.add(tick);
    timer ||= window.setInterval(() => tickers.forEach((each) => each()), 1000);
    return () => {
      tickers.delete(tick);
      if (!tickers.size) {
        clearInterval(timer);
        timer = 0;
      }
    };
  }, []);
  return now;
}

/** A moment, as its distance from now; the exact time is its title. */
export function Ago({ at }: { at: string | null | undefined }) {
  const now = useNow();
  const date = parse(at);
  if (!date) return <span class="faint">{at ? visible(at) : DASH}</span>;
  return (
    <time dateTime={date.toISOString()} title={`${stamp(date)} here, ${date.toISOString()}`}>
      {relative(date, now)}
    </time>
  );
}

/** A moment as date and time. */
export function At({ at }: { at: string | null | undefined }) {
  const date = parse(at);
  if (!date) return <span class="faint">{at ? visible(at) : DASH}</span>;
  return (
    <time dateTime={date.toISOString()} title={date.toISOString()} class="nowrap">
      {stamp(date)}
    </time>
  );
}

export function Trouble({ error, retry }: { error: string; retry?: () => void }) {
  return (
    <div class="notice tone-bad" role="alert">
      <span class="glyph" aria-hidden="true">
        ✕
      </span>
      <span>
        <Foreign text={error} />
      </span>
      {retry && (
        <button type="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

export function Notice({ tone = "info", children }: { tone?: string; children: ComponentChildren }) {
  return <div class={`notice tone-${tone}`}>{children}</div>;
}

/** What the page lacks, since it cannot be read: one line each. */
export function Problems({ lines }: { lines: readonly string[] | undefined }) {
  if (!lines?.length) return null;
  return (
    <Notice tone="warn">
      <ul class="problems" aria-label="What cannot be read">
        {lines.map((line) => <li key={line}><Foreign text={line} /></li>)}
      </ul>
    </Notice>
  );
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}

/** Waits a moment before it says so: what comes at once should not flicker. */
export function Loading() {
  const [late, set] = useState(false);
  useEffect(() => {
    const wait = window.setTimeout(() => set(true), 300);
    return () => clearTimeout(wait);
  }, []);
  return <p class="empty" role="status">{late ? "Loading …" : ""}</p>;
}

export function Panel({ title, aside, children, id }: { title: ComponentChildren; aside?: ComponentChildren; children: ComponentChildren; id: string }) {
  return (
    <section class="panel" aria-labelledby={`${id}-title`}>
      <header class="panel-head">
        <h2 id={`${id}-title`}>{title}</h2>
        {aside && <div class="panel-aside">{aside}</div>}
      </header>
      {children}
    </section>
  );
}

/** A figure with its label. */
export function Stat({ label, value, note, tone, href, hint }: { label: string; value: ComponentChildren; note?: ComponentChildren; tone?: string; href?: string; hint?: string }) {
  return (
    <div class={`stat${tone ? ` tone-${tone}` : ""}`} title={hint}>
      <dt>{href ? <A href={href}>{label}</A> : label}</dt>
      <dd>
        <span class="stat-value">{value}</span>
        {note && <span class="stat-note">{note}</span>}
      </dd>
    </div>
  );
}

export function Facts({ rows }: { rows: ([string, ComponentChildren] | null | false)[] }) {
  return (
    <dl class="facts">
      {rows.map(
        (row) =>
          row && (
            <div key={row[0]}>
              <dt>{row[0]}</dt>
              <dd>{row[1]}</dd>
            </div>
          ),
      )}
    </dl>
  );
}

/** A bar of a part of a whole, which is also said in words. */
export function Meter({ value, most, label }: { value: number; most: number; label: string }) {
  return <progress class="meter" max={Math.max(most, 1e-9)} value={Math.min(value, most)} aria-label={visible(label)} />;
}

export function Segments<T extends string>({ label, value, options, onChange }: { label: string; value: T; options: readonly (readonly [T, string])[]; onChange: (value: T) => void }) {
  return (
    <div class="segments" role="group" aria-label={label}>
      {options.map(([key, text]) => (
        <button type="button" key={key} aria-pressed={key === value} onClick={() => onChange(key)}>
          {text}
        </button>
      ))}
    </div>
  );
}

/** A text field that reports after a pause in typing. */
export function Field({ label, value, onChange, type = "text", placeholder, wait = 250, search = false, list }: { label: string; value: string; onChange: (value: string) => void; type?: "text" | "datetime-local"; placeholder?: string; wait?: number; search?: boolean; list?: string[] }) {
  const [text, set] = useState(value);
  useEffect(() => set(value), [value]);
  useEffect(() => {
    if (text === value) return;
    const pause = window.setTimeout(() => onChange(text), wait);
    return () => clearTimeout(pause);
  }, [text]);
  return (
    <label class="field">
      <span>{label}</span>
      <input
        type={type}
        value={text}
        placeholder={placeholder}
        autocomplete="off"
        spellcheck={false}
        {...(search ? { "data-search": "" } : {})}
        {...(list ? { list: `list-${label}` } : {})}
        onInput={(event) => set(event.currentTarget.value)}
      />
      {list && (
        <datalist id={`list-${label}`}>
          {list.map((each) => (
            <option key={each} value={each} />
          ))}
        </datalist>
      )}
    </label>
  );
}

export function Choice({ label, value, options, onChange }: { label: string; value: string; options: readonly (readonly [string, string])[]; onChange: (value: string) => void }) {
  return (
    <label class="field">
      <span>{label}</span>
      <select value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {options.map(([key, text]) => (
          <option key={key} value={key}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}
