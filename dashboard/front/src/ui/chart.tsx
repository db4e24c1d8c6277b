// Charts of our own, in SVG: they follow the theme, can be read with the keyboard, and have a table beside them.
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { clock, day, parse, stamp, visible } from "../format";
import { Table } from "./table";

export interface Series {
  name: string;
  values: (number | null)[];
  look: "a" | "b" | "c" | "d" | "e";
  area?: boolean;
  step?: boolean;
}

interface Props {
  title: string;
  times: string[];
  series: Series[];
  format: (value: number | null) => string;
  unit?: string;
  height?: number;
  onPick?: (index: number) => void;
}

const BOTTOM = 20;
const TOP = 8;
const RIGHT = 8;

/** Steps of 1, 2 or 5 that make about four lines. */
export function ticks(most: number): number[] {
  if (!(most > 0)) return [0, 1];
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough) ?? rough;
  const list: number[] = [];
  for (let value = 0; value < most + step * 0.999 && list.length < 8; value += step) list.push(Number(value.toPrecision(12)));
  return list;
}

const ROUND_SECONDS = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800];

/** Round moments for the axis of time, in the reader's zone: `most` of them or fewer. */
export function timeLabels(first: number, lasting: number, most: number): number[] {
  if (!(lasting > 0)) return [];
  const step = 1000 * (ROUND_SECONDS.find((each) => lasting / 1000 / each <= most) ?? 604_800);
  const zone = new Date(first).getTimezoneOffset() * 60_000;
  const list: number[] = [];
  for (let at = Math.ceil((first - zone) / step) * step + zone; at <= first + lasting && list.length < 50; at += step) list.push(at);
  return list;
}

/** A path through the known values; where one is not known the line has a gap. */
function line(values: (number | null)[], x: (i: number) => number, y: (v: number) => number, step: boolean): string {
  let path = "";
  let before: number | null = null;
  values.forEach((value, i) => {
    if (value === null || !Number.isFinite(value)) return void (before = null);
    const at = `${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
    if (before === null) path += `M${at}`;
    else path += step ? `H${x(i).toFixed(1)}V${y(value).toFixed(1)}` : `L${at}`;
    // A single known point between two gaps would be invisible as a line.
    if (before === null && (values[i + 1] ?? null) === null) path += "h1";
    before = value;
  });
  return path;
}

function area(values: (number | null)[], x: (i: number) => number, y: (v: number) => number): string {
  let path = "";
  let start = -1;
  for (let i = 0; i <= values.length; i++) {
    const value = values[i] ?? null;
    if (value !== null && start < 0) start = i;
    if (value === null && start >= 0) {
      const part = values.slice(start, i) as number[];
      path += `M${x(start).toFixed(1)} ${y(0)}`;
      part.forEach((each, j) => (path += `L${x(start + j).toFixed(1)} ${y(each).toFixed(1)}`));
      path += `L${x(i - 1).toFixed(1)} ${y(0)}Z`;
      start = -1;
    }
  }
  return path;
}

export function Chart({ title, times, series, format, unit = "", height = 180, onPick }: Props) {
  const id = useId();
  const frame = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(640);
  const [cursor, setCursor] = useState<number | null>(null);
  const [table, setTable] = useState(false);

  useEffect(() => {
    if (!frame.current) return;
    const watch = new ResizeObserver(([entry]) => entry && setWidth(Math.max(200, Math.round(entry.contentRect.width))));
    watch.observe(frame.current);
    return () => watch.disconnect();
  }, [table]);

  const most = Math.max(0, ...series.flatMap((each) => each.values.map((value) => value ?? 0)));
  const marks = ticks(most);
  const top = marks[marks.length - 1] ?? 1;
  const last = Math.max(1, times.length - 1);
  const left = Math.max(40, 14 + 6.4 * Math.max(...marks.map((mark) => format(mark).length)));
  const y = (value: number) => TOP + (height - TOP - BOTTOM) * (1 - value / top);
  const dates = times.map(parse);
  // A place on the axis is a time, since records that tell nothing new are left out.
  const first = dates[0]?.getTime() ?? 0;
  const lasting = (dates.at(-1)?.getTime() ?? 0) - first;
  const share = (i: number) => (lasting > 0 && dates[i] ? (dates[i]!.getTime() - first) / lasting : i / last);
  const x = (i: number) => left + (width - left - RIGHT) * share(i);
  const long = lasting > 36 * 3600 * 1000;
  const labels = timeLabels(first, lasting, Math.max(2, Math.floor((width - left) / (long ? 110 : 72))));
  const shown = Math.min(cursor ?? times.length - 1, times.length - 1);
  const when = dates[shown];
  const words = when
    ? `${stamp(when)}: ${series.map((each) => `${each.name} ${format(each.values[shown] ?? null)}`).join(", ")}`
    : "no figures yet";

  const move = (event: KeyboardEvent) => {
    const steps: Record<string, number> = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -1e9, End: 1e9 };
    const step = steps[event.key];
    if (event.key === "Enter" && onPick) return onPick(shown);
    if (step === undefined) return;
    event.preventDefault();
    setCursor(Math.min(times.length - 1, Math.max(0, shown + step)));
  };
  const point = (event: PointerEvent) => {
    const box = (event.currentTarget as Element).getBoundingClientRect();
    const wanted = (event.clientX - box.left - left) / (width - left - RIGHT);
    let nearest = 0;
    for (let i = 1; i < times.length; i++) if (Math.abs(share(i) - wanted) <= Math.abs(share(nearest) - wanted)) nearest = i;
    setCursor(nearest);
  };

  return (
    <figure class="chart" aria-labelledby={`${id}-t`}>
      <figcaption>
        <h3 id={`${id}-t`}>
          {title}
          {unit && <span class="unit"> {unit}</span>}
        </h3>
        <span class="chart-when">{when && cursor !== null ? (long ? `${day(when).slice(5)} ${clock(when, false)}` : clock(when)) : ""}</span>
        <button type="button" class="quiet" aria-pressed={table} onClick={() => setTable(!table)}>
          {table ? "Chart" : "Table"}
        </button>
      </figcaption>
      {table ? (
        <div class="chart-table">
          <Table
            caption={`${title}, as a table`}
            rows={times.map((at, i) => ({ at, i })).reverse()}
            rowKey={(row) => row.at}
            columns={[
              { key: "at", head: "Time", cell: (row) => (dates[row.i] ? stamp(dates[row.i]!) : row.at) },
              ...series.map((each) => ({
                key: each.name,
                head: each.name,
                num: true,
                cell: (row: { i: number }) => format(each.values[row.i] ?? null),
              })),
            ]}
          />
        </div>
      ) : (
        <>
          <div class="legend">
            {series.map((each) => (
              <span key={each.name}>
                <svg class={`key look-${each.look}`} width="22" height="8" aria-hidden="true">
                  <path d="M0 4H22" />
                </svg>
                {each.name} <b>{format(each.values[shown] ?? null)}</b>
              </span>
            ))}
          </div>
          <div
            class="plot"
            ref={frame}
            tabIndex={0}
            role="slider"
            aria-label={`${title}: point in time`}
            aria-valuemin={0}
            aria-valuemax={last}
            aria-valuenow={Math.max(0, shown)}
            aria-valuetext={words}
            onKeyDown={move}
            onPointerMove={point}
            onPointerLeave={() => setCursor(null)}
            onBlur={() => setCursor(null)}
            onClick={() => onPick?.(shown)}
          >
            <svg width={width} height={height} viewBox={`0 0 ${width} ${height}`} aria-hidden="true">
              <g class="grid">
                {marks.map((mark) => (
                  <g key={mark}>
                    <path d={`M${left} ${y(mark).toFixed(1)}H${width - RIGHT}`} />
                    <text x={left - 6} y={y(mark) + 4} text-anchor="end">
                      {format(mark)}
                    </text>
                  </g>
                ))}
                {labels.map((ms) => {
                  const date = new Date(ms);
                  const at = left + ((width - left - RIGHT) * (ms - first)) / lasting;
                  const room = long ? 34 : 24;
                  return at < left || at > width - room ? null : (
                    <text key={ms} x={at} y={height - 4} text-anchor="middle">
                      {long ? `${day(date).slice(5)} ${clock(date, false)}` : clock(date, lasting < 4 * 60_000)}
                    </text>
                  );
                })}
              </g>
              {series.map((each) => (
                <g key={each.name} class={`look-${each.look}`}>
                  {each.area && <path class="fill" d={area(each.values, x, y)} />}
                  <path class="line" d={line(each.values, x, y, Boolean(each.step))} />
                </g>
              ))}
              {cursor !== null && times.length > 0 && (
                <g class="cursor">
                  <path d={`M${x(shown)} ${TOP}V${height - BOTTOM}`} />
                  {series.map((each) => {
                    const value = each.values[shown];
                    return value === null || value === undefined ? null : (
                      <circle key={each.name} class={`dot look-${each.look}`} cx={x(shown)} cy={y(value)} r="3.5" />
                    );
                  })}
                </g>
              )}
            </svg>
            {!times.length && <p class="plot-empty">No figures yet. They are recorded from now on.</p>}
          </div>
        </>
      )}
    </figure>
  );
}

/** Sixty figures as a small line. */
export function Spark({ values, label }: { values: (number | null)[]; label: string }) {
  const known = values.filter((value): value is number => value !== null);
  const most = Math.max(1, ...known);
  const x = (i: number) => 1 + (i * 86) / Math.max(1, values.length - 1);
  const y = (value: number) => 19 - (17 * value) / most;
  const words = known.length ? `${label}: now ${known.at(-1)}, most ${Math.max(...known)} in the last hour` : `${label}: no figures yet`;
  return (
    <svg class="spark" width="88" height="21" viewBox="0 0 88 21" role="img" aria-label={visible(words)}>
      <path class="fill" d={area(values, x, y)} />
      <path class="line" d={line(values, x, y, false)} />
    </svg>
  );
}
