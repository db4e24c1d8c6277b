// The bodies of the HTTP API, by the names that the pages use.

export interface Session {
  user: string;
  may_change: boolean;
  csrf: string;
  version: string;
  redis: string;
  masked_fields: string[];
  base: string;
  login: string | null;
}

export interface QueueRow {
  name: string;
  state: string;
  problem: string;
  ready: number;
  running: number;
  delayed: number;
  blocked: number;
  parked: number;
  dead: number;
  oldest_age_seconds: number;
  in_per_second: number | null;
  out_per_second: number | null;
  failed_per_second: number | null;
  drains_in_seconds: number | null;
  workers: number;
  limits: string;
  spark: (number | null)[];
}

export interface FailureRow {
  id: string;
  task: string | null;
  queue: string;
  reason: string | null;
  error: string | null;
  at: string | null;
}

export interface ScalerRow {
  name: string;
  replicas: number;
  desired: number;
  busy: number | null;
  reason: string;
  message: string;
  limited_by: string;
  at: string;
}

export interface Totals {
  ready: number;
  running: number;
  delayed: number;
  blocked: number;
  dead: number;
  in_per_second: number | null;
  out_per_second: number | null;
  failed_per_second: number | null;
  drains_in_seconds: number | null;
}

export interface WorkerTotals {
  total: number;
  busy: number;
  idle: number;
  cordoned: number;
  draining: number;
  slots: number;
  running: number;
}

export interface Overview {
  at: string;
  unread: number;
  totals: Totals;
  workers: WorkerTotals;
  queues: { items: QueueRow[]; total: number; offset: number };
  failures: FailureRow[];
  scalers: ScalerRow[];
}

export interface KeyRow {
  key: string;
  queue?: string;
  waiting: number;
  running: number | null;
}

export interface LimitRow {
  name: string;
  limit: number;
  used: number | null;
}

export interface QueueDetail {
  row: QueueRow;
  partitions: { name: string; ready: number; running: number; delayed: number; dead: number }[];
  options: Record<string, unknown> | null;
  limits: LimitRow[];
  keys: { limit_keys: KeyRow[]; fair_keys: KeyRow[]; whole: boolean };
  states: Record<string, number>;
}

export interface HistoryPoint {
  at: string;
  ready: number | null;
  running: number | null;
  delayed: number | null;
  blocked: number | null;
  dead: number | null;
  oldest_age_seconds: number | null;
  enqueued_per_second: number | null;
  finished_per_second: number | null;
  failed_per_second: number | null;
  busy_slots: number | null;
}

export interface History {
  step_seconds: number;
  points: HistoryPoint[];
}

export interface TaskRow {
  id: string;
  task: string | null;
  queue: string;
  state: string;
  enqueued_at: string | null;
  due_at: string | null;
  started_at: string | null;
  ended_at: string | null;
  worker: string | null;
  attempt: number | null;
  unique_key: string | null;
  limit_key: string | null;
  fair_key: string | null;
  waiting: string | null;
  error: string | null;
}

export interface Page<T> {
  items: T[];
  cursor: string | null;
  examined?: number;
}

export interface AttemptError {
  attempt: number;
  at: string;
  worker: string | null;
  reason: string;
  error: string;
  traceback: string;
  retry_at: string | null;
}

export interface LifeEvent {
  at: string | null;
  what: string;
  detail: string | null;
  worker: string | null;
  attempt: number | null;
}

export interface TaskDetail extends TaskRow {
  args: string | null;
  kwargs: string | null;
  enqueued_by: string | null;
  parent: string | null;
  lease_expires_at: string | null;
  deliveries: number | null;
  max_retries: number | null;
  waits_for: string[];
  errors: AttemptError[];
  progress: { done: number; total: number | null; fraction: number | null; note: string; at: string } | null;
  result: string | null;
  traceback: string | null;
  reason: string | null;
  problem: string | null;
  life: LifeEvent[];
  masked: string[];
}

export interface Graph {
  nodes: { id: string; task: string | null; queue: string | null; state: string }[];
  edges: { from: string; to: string; position: number | null; kind: string }[];
  whole: boolean;
}

export interface DeadRow {
  id: string;
  task: string | null;
  queue: string;
  reason: string;
  error: string;
  attempts: number | null;
  deliveries: number | null;
  enqueued_at: string | null;
  died_at: string | null;
}

export interface DeadDetail extends TaskDetail {
  attempts: number;
  died_at: string | null;
}

export interface Job {
  job: string;
  action: string;
  state: string;
  done: number;
  stayed: number;
  examined: number;
  undoable: number;
  total: number | null;
  error: string | null;
  undo_until: string | null;
}

export interface ScheduleRow {
  name: string;
  queue: string;
  task: string;
  schedule: string;
  time_zone: string;
  paused: boolean;
  next: string[];
  last_at: string | null;
  last_task_id: string | null;
  last_outcome: string | null;
  concurrency_policy: string;
  starting_deadline_seconds: number | null;
  owner: string;
  fired_total: number;
  skipped_total: number;
  dropped_total: number;
  problem: string;
}

export interface WorkerRow {
  id: string;
  name: string;
  host: string;
  pid: number;
  version: string;
  state: string;
  queues: string[];
  slots: number;
  busy: number;
  stuck: number;
  started_at: string | null;
  heartbeat_age_seconds: number;
  clock_skew_seconds: number;
  oldest_run_seconds: number | null;
  runs: { id: string; task: string | null; queue: string; seconds: number }[];
}

export interface ScalerPoint {
  at: string;
  replicas: number;
  desired: number;
  busy: number | null;
  reason: string;
  message: string;
  limited_by: string;
  limit_message: string;
  terms: Record<string, number | null>;
}

export interface Scaler {
  name: string;
  spec: Record<string, unknown> | null;
  points: ScalerPoint[];
}

export interface DecisionDetail extends ScalerPoint {
  queues: { queue: string; terms: Record<string, number | null> }[];
  sample: Record<string, unknown>;
  spec: Record<string, unknown> | null;
}

export interface WhatIf {
  points: { at: string; replicas: number; desired: number; would: number; reason: string; message: string }[];
  summary: string;
}

export interface Explanation {
  name: string;
  at: string;
  replicas: number;
  desired: number;
  why: string;
  limit: string;
  lines: { name: string; value: number | null; text: string }[];
  changes: string[];
}

export interface Done {
  changed: boolean;
  count: number | null;
  detail: string;
}

export interface AuditRow {
  at: string;
  user: string | null;
  action: string;
  subject: string;
  detail: string | null;
  outcome: string;
}
