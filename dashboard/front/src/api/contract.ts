// The bodies of the HTTP API by the names that the pages use. `schema.ts` is generated from the OpenAPI document.
import type { components } from "./schema";

type Bodies = components["schemas"];

export type Session = Bodies["SessionAnswer"];
export type Overview = Bodies["OverviewAnswer"];
export type QueueRow = Bodies["QueueRow"];
export type ScalerRow = Bodies["ScalerRow"];
export type QueueDetail = Bodies["QueueAnswer"];
export type Keys = Bodies["AllKeysAnswer"];
export type KeyRow = Bodies["KeyRow"];
export type History = Bodies["HistoryAnswer"];
export type TaskRow = Bodies["TaskRow"];
export type TaskDetail = Bodies["TaskAnswer"];
export type AttemptError = Bodies["AttemptRow"];
export type LifeEvent = Bodies["LifeEvent"];
export type Graph = Bodies["GraphAnswer"];
export type DeadRow = Bodies["DeadRow"];
export type DeadDetail = Bodies["DeadAnswer"];
export type Job = Bodies["JobAnswer"];
export type JobStarted = Bodies["JobStarted"];
export type ScheduleRow = Bodies["ScheduleRow"];
export type WorkerRow = Bodies["WorkerRow"];
export type Scaler = Bodies["ScalerAnswer"];
export type ScalerPoint = Bodies["ScalerPoint"];
export type DecisionDetail = Bodies["DecisionAnswer"];
export type WhatIf = Bodies["WhatIfAnswer"];
export type Explanation = Bodies["ExplainAnswer"];
export type AuditRow = Bodies["AuditRow"];
export type Done = Bodies["DoneAnswer"];

/** A page of a listing; `examined` is how many records the server looked at for it. */
export interface Page<T> {
  items: T[];
  cursor: string | null;
  examined?: number;
  problems?: string[];
}
