// Data of tasks: arguments, results, tracebacks. All of it is text.
import { useState } from "preact/hooks";
import { visible } from "../format";
import { toast } from "./dialog";

const MOST = 20_000;

export function pretty(value: unknown): string {
  if (value === undefined) return "";
  try {
    return JSON.stringify(value, null, 2) ?? String(value);
  } catch {
    return String(value);
  }
}

/** JSON text with line breaks. It is never parsed: numbers stay as they are written, and cut text can be shown. */
export function indented(text: string): string {
  if (text.length > 200_000) return text;
  let out = "";
  let depth = 0;
  const line = () => `\n${"  ".repeat(Math.min(depth, 40))}`;
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!;
    if (c === '"') {
      let end = i + 1;
      while (end < text.length && text[end] !== '"') end += text[end] === "\\" ? 2 : 1;
      out += text.slice(i, end + 1);
      i = end;
    } else if (c === "[" || c === "{") {
      const close = c === "[" ? "]" : "}";
      const rest = /\S/.exec(text.slice(i + 1, i + 50));
      if (rest && rest[0] === close) {
        out += c + close;
        i += rest.index + 1;
      } else {
        depth++;
        out += c + line();
      }
    } else if (c === "]" || c === "}") {
      depth = Math.max(0, depth - 1);
      out += line() + c;
    } else if (c === ",") out += c + line();
    else if (c === ":") out += ": ";
    else if (!/\s/.test(c)) out += c;
  }
  return out;
}

/** A block of text with a button that copies it; what is very long is cut, and says so. */
export function Code({ text, label }: { text: string; label: string }) {
  const [whole, setWhole] = useState(false);
  const seen = visible(text);
  const cut = !whole && seen.length > MOST;
  return (
    <div class="code">
      <pre tabIndex={0} role="region" aria-label={label} dir="auto">
        {cut ? seen.slice(0, MOST) : seen}
      </pre>
      <div class="code-acts">
        {cut && (
          <button type="button" class="quiet" onClick={() => setWhole(true)}>
            Show all {seen.length.toLocaleString("en")} characters
          </button>
        )}
        <button
          type="button"
          class="quiet"
          aria-label={`Copy: ${label}`}
          onClick={() => {
            // Without TLS a browser has no clipboard for a page that is not on loopback.
            const done = navigator.clipboard?.writeText(text);
            if (done) done.then(() => toast("Copied"), () => toast("The browser did not allow to copy", true));
            else toast("The browser allows copying only over HTTPS", true);
          }}
        >
          Copy
        </button>
      </div>
    </div>
  );
}
