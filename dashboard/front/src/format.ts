// Numbers, durations and times as text. What is not known is a dash.

export const DASH = "–";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

type Maybe = number | null | undefined;

const known = (value: Maybe): value is number => typeof value === "number" && Number.isFinite(value);

export function count(value: Maybe): string {
  if (!known(value)) return DASH;
  return Math.abs(value) < 1e6 ? whole.format(value) : short.format(value);
}

/** A rate per second. */
export function rate(value: Maybe): string {
  if (!known(value)) return DASH;
  if (value === 0) return "0";
  if (value < 0.01) return "<0.01";
  return value < 10 ? value.toFixed(value < 1 ? 2 : 1) : count(value);
}

export function figure(value: unknown): string {
  if (typeof value !== "number" || !Number.isFinite(value)) return value === null || value === undefined ? DASH : String(value);
  if (Number.isInteger(value)) return count(value);
  // Not by removing zeros at the end of the text: those of `120` count.
  if (Math.abs(value) < 0.005) return value < 0 ? "0" : "<0.01";
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return digits ? String(Number(value.toFixed(digits))) : count(value);
}

/** Seconds as `4.2 s`, `3 min 5 s`, `2 h 10 min`, `5 d 3 h`. */
export function duration(seconds: Maybe): string {
  if (!known(seconds)) return DASH;
  const s = Math.max(0, seconds);
  if (s === 0) return "0 s";
  if (s < 1) return `${Math.max(1, Math.round(s * 1000))} ms`;
  if (s < 10) return `${Number(s.toFixed(1))} s`;
  if (s < 60) return `${Math.round(s)} s`;
  const pair = (big: number, one: string, small: number, two: string) => (small ? `${big} ${one} ${small} ${two}` : `${big} ${one}`);
  if (s < 3600) return pair(Math.floor(s / 60), "min", Math.floor(s % 60), "s");
  if (s < 86_400) return pair(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "min");
  if (s < 86_400 * 1000) return pair(Math.floor(s / 86_400), "d", Math.floor((s % 86_400) / 3600), "h");
  return `${whole.format(s / 86_400)} d`;
}

export function parse(at: string | null | undefined): Date | null {
  if (!at) return null;
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? null : date;
}

const pad = (n: number) => String(n).padStart(2, "0");

export function clock(date: Date, seconds = true): string {
  return `${pad(date.getHours())}:${pad(date.getMinutes())}${seconds ? `:${pad(date.getSeconds())}` : ""}`;
}

export function day(date: Date): string {
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
}

/** Date and time in the zone of the reader. */
export function stamp(date: Date): string {
  return `${day(date)} ${clock(date)}`;
}

/** `3 min ago`, `in 20 s`. */
export function relative(date: Date, now: number): string {
  const seconds = (now - date.getTime()) / 1000;
  if (Math.abs(seconds) < 1) return "now";
  const text = coarse(Math.abs(seconds));
  return seconds > 0 ? `${text} ago` : `in ${text}`;
}

export function coarse(s: number): string {
  if (s < 60) return `${Math.round(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return pairOf(s, 3600, "h", 60, "min");
  return pairOf(s, 86_400, "d", 3600, "h");
}

function pairOf(s: number, big: number, one: string, small: number, two: string): string {
  const rest = Math.floor((s % big) / small);
  return rest ? `${Math.floor(s / big)} ${one} ${rest} ${two}` : `${Math.floor(s / big)} ${one}`;
}

/** A time in another zone, such as that of a schedule. An unknown zone falls back to UTC and says so. */
export function inZone(date: Date, zone: string): string {
  const style: Intl.DateTimeFormatOptions = { weekday: "short", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  try {
    return new Intl.DateTimeFormat("en-GB", { ...style, timeZone: zone || "UTC" }).format(date);
  } catch {
    return `${new Intl.DateTimeFormat("en-GB", { ...style, timeZone: "UTC" }).format(date)} UTC`;
  }
}

// What looks like nothing or turns the reading direction is shown as its code, so that text cannot pose as other text.
// eslint-disable-next-line no-control-regex
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/** Foreign text made visible: control characters, escapes and direction marks are shown by their code. */
export function visible(text: unknown): string {
  return String(text ?? "").replace(HIDDEN, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}
