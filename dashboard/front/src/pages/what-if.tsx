// What-if: other settings, decided over the recorded hour. It changes nothing.
import { useState } from "preact/hooks";
import { message, post } from "../api/client";
import type { WhatIf } from "../api/contract";
import { figure } from "../format";
import { seg } from "../router";
import { Foreign, Panel, Trouble } from "../ui/basics";
import { Chart } from "../ui/chart";

type Spec = Record<string, unknown>;

interface Knob {
  label: string;
  path: [string] | [string, string];
  fallback: number;
  least: number;
  most: number;
  unit: string;
}

const KNOBS: Knob[] = [
  // As this, it holds also for queues that have a target of their own.
  { label: "Target", path: ["targetLatencySeconds"], fallback: 60, least: 1, most: 86_400, unit: "seconds for each backlog to be gone" },
  { label: "Minimum", path: ["minReplicas"], fallback: 0, least: 0, most: 10_000, unit: "workers" },
  { label: "Maximum", path: ["maxReplicas"], fallback: 50, least: 1, most: 10_000, unit: "workers" },
  { label: "Utilisation", path: ["target", "utilizationPercent"], fallback: 80, least: 1, most: 100, unit: "% of the slots" },
];

const inner = (spec: Spec | null, name: string): Spec => {
  const value = spec?.[name];
  return value && typeof value === "object" ? (value as Spec) : {};
};

function recorded(spec: Spec | null, knob: Knob): number {
  const [first, second] = knob.path[0] === "targetLatencySeconds" ? (["target", "drainSeconds"] as const) : knob.path;
  const value = second ? inner(spec, first)[second] : spec?.[first];
  return typeof value === "number" ? value : knob.fallback;
}

export function WhatIfPanel({ name, spec }: { name: string; spec: Spec | null }) {
  const [typed, setTyped] = useState<Record<string, string>>({});
  const [answer, setAnswer] = useState<WhatIf | null>(null);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);

  const changed = KNOBS.filter((knob) => typed[knob.label] !== undefined && typed[knob.label] !== "" && Number(typed[knob.label]) !== recorded(spec, knob));
  const ask = async (values: Record<string, string>) => {
    const order: Spec = {};
    for (const knob of KNOBS) {
      const text = values[knob.label];
      if (text === undefined || text === "" || Number(text) === recorded(spec, knob)) continue;
      const [first, second] = knob.path;
      if (second) order[first] = { ...inner(order[first] ? order : spec, first), [second]: Number(text) };
      else order[first] = Number(text);
    }
    setBusy(true);
    setError("");
    try {
      setAnswer(await post<WhatIf>(`/api/scalers/${name.split("/").map(seg).join("/")}/what-if`, order));
    } catch (problem) {
      setError(message(problem));
      setAnswer(null);
    } finally {
      setBusy(false);
    }
  };
  const target = KNOBS[0]!;
  const halve = () => {
    const values = { ...typed, [target.label]: String(Math.max(1, Math.floor(recorded(spec, target) / 2))) };
    setTyped(values);
    void ask(values);
  };
  return (
    <Panel id="what-if" title="What if" aside={<span class="faint">over the recorded hour; nothing is changed</span>}>
      <form
        class="what-if"
        onSubmit={(event) => {
          event.preventDefault();
          void ask(typed);
        }}
      >
        {KNOBS.map((knob) => (
          <label class="field" key={knob.label}>
            <span>{knob.label}</span>
            <input
              type="number"
              min={knob.least}
              max={knob.most}
              step={1}
              inputMode="numeric"
              value={typed[knob.label] ?? String(recorded(spec, knob))}
              onInput={(event) => setTyped({ ...typed, [knob.label]: event.currentTarget.value })}
            />
            <span class="small faint">{knob.unit}</span>
          </label>
        ))}
        <div class="what-if-acts">
          <button type="submit" class="primary" disabled={busy || !changed.length}>See what it would decide</button>
          <button type="button" onClick={halve} disabled={busy}>Halve the target</button>
        </div>
      </form>
      {error && <Trouble error={error} />}
      {answer && (
        <div data-answer>
          <p class="why" role="status"><Foreign text={answer.summary} /></p>
          <Chart
            title="Workers wanted"
            times={answer.points.map((point) => point.at)}
            format={figure}
            series={[
              { name: "with these settings", values: answer.points.map((point) => point.would), look: "a", step: true },
              { name: "as it was", values: answer.points.map((point) => point.desired), look: "c", step: true },
            ]}
          />
        </div>
      )}
    </Panel>
  );
}
