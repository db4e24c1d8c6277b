// One table for all listings. On a narrow screen each row becomes a card, with the heads beside the values.
import type { ComponentChildren } from "preact";
import { DASH } from "../format";

export interface Column<T> {
  key: string;
  head: string;
  cell: (row: T) => ComponentChildren;
  num?: boolean;
  wide?: boolean;
  sort?: string;
  hint?: string;
}

interface Props<T> {
  caption: string;
  columns: Column<T>[];
  rows: readonly T[];
  rowKey: (row: T) => string;
  sort?: string;
  onSort?: (sort: string) => void;
  rowClass?: (row: T) => string;
  rowHead?: string;
}

/** `sort` is a column's. The server sorts: figures the largest first, text from A. */
export function Table<T>({ caption, columns, rows, rowKey, sort = "", onSort, rowClass, rowHead }: Props<T>) {
  const head = rowHead ?? columns[0]?.key;
  return (
    <div class="table-scroll" tabIndex={0} role="region" aria-label={`${caption}, table`}>
      <table class="table" role="table">
        <caption class="sr">{caption}</caption>
        <thead role="rowgroup">
          <tr role="row">
            {columns.map((column) => {
              const order = column.sort && column.sort === sort ? (column.num ? "descending" : "ascending") : undefined;
              return (
                <th key={column.key} scope="col" role="columnheader" class={column.num ? "num" : ""} aria-sort={order}>
                  {column.sort && onSort ? (
                    <button type="button" class="sort" title={column.hint} onClick={() => onSort(column.sort!)}>
                      {column.head}
                      <span aria-hidden="true">{order === "descending" ? " ↓" : order === "ascending" ? " ↑" : ""}</span>
                    </button>
                  ) : (
                    <span title={column.hint}>{column.head || <span class="sr">Actions</span>}</span>
                  )}
                </th>
              );
            })}
          </tr>
        </thead>
        <tbody role="rowgroup">
          {rows.map((row) => (
            <tr key={rowKey(row)} role="row" class={rowClass?.(row)}>
              {columns.map((column) => {
                const cell = column.cell(row);
                // A card leaves out what is not known.
                const name = `${column.num ? "num " : ""}${column.wide ? "wide " : ""}${cell === DASH ? "none" : ""}`.trimEnd();
                return column.key === head ? (
                  <th key={column.key} scope="row" role="rowheader" class={`row-head ${name}`} data-label={column.head}>
                    {cell}
                  </th>
                ) : (
                  <td key={column.key} role="cell" class={name} data-label={column.head}>
                    <div class="cell">{cell}</div>
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Pages of a listing with an offset. */
export function Pager({ offset, size, total, onChange }: { offset: number; size: number; total: number; onChange: (offset: number) => void }) {
  if (total <= size) return null;
  return (
    <nav class="pager" aria-label="Pages of the listing">
      <button type="button" disabled={!offset} onClick={() => onChange(Math.max(0, offset - size))}>
        ← Previous
      </button>
      <span>
        {offset + 1}–{Math.min(total, offset + size)} of {total.toLocaleString("en")}
      </span>
      <button type="button" disabled={offset + size >= total} onClick={() => onChange(offset + size)}>
        Next →
      </button>
    </nav>
  );
}

/** Pages of a listing with a cursor: forward to the next, back to those that were seen. */
export function CursorPager({ trail, next, onChange, note }: { trail: string[]; next: string | null; onChange: (trail: string[]) => void; note?: ComponentChildren }) {
  if (!trail.length && !next) return note ? <p class="pager">{note}</p> : null;
  return (
    <nav class="pager" aria-label="Pages of the listing">
      <button type="button" disabled={!trail.length} onClick={() => onChange(trail.slice(0, -1))}>
        ← Previous
      </button>
      <span>
        Page {trail.length + 1}
        {note && <> · {note}</>}
      </span>
      <button type="button" disabled={!next} onClick={() => next && onChange([...trail, next])}>
        Next →
      </button>
    </nav>
  );
}
