// Reasons and limits of decisions in words, and states of tasks. The names are those of the autoscaler's documentation.
import { visible } from "./format";

const REASONS: Record<string, string> = {
  DrainTime: "the waiting tasks are to be done within the target",
  BacklogPerReplica: "so many tasks wait, and their run time is not known yet",
  Threshold: "of the tasks that wait per worker",
  Idle: "there is nothing to do",
  Activated: "work has come to a sleeping queue",
  Panic: "tasks wait or arrive so fast that the last seconds count alone",
  Suspended: "the queue is suspended",
  Paused: "scaling is paused by an annotation",
  Disabled: "the number is set by hand",
  Fallback: "the figures could not be read, so the fallback decides",
  SampleFailed: "the figures could not be read",
  SuspectSample: "the figures cannot be right, so nothing is changed",
  WithinTolerance: "another number would be within the tolerance of this one, or be a matter of chance",
};

const LIMITS: Record<string, string> = {
  TooManyReplicas: "the maximum allows no more",
  TooFewReplicas: "the minimum asks for these",
  ScaleUpLimit: "workers may be added only so fast",
  ScaleDownLimit: "workers may be removed only so fast",
  ScaleUpStabilized: "it waits until the need has lasted",
  ScaleDownStabilized: "it waits until the need has stayed low",
  MaxPendingReplicas: "those that start come first",
  BusyWorkers: "busy workers are not taken away",
  BusyPodNotReady: "Kubernetes would remove a busy pod first",
  SuspectSample: "the figures could not be right a moment ago",
  RolloutUnderWay: "a rollout is under way",
  Cooldown: "the cooldown has not passed",
  ForceActivation: "an annotation keeps one",
  PausedScaleIn: "removing is paused by an annotation",
  PausedScaleOut: "adding is paused by an annotation",
  JustStarted: "workers have just started",
  LateTasks: "tasks would wait too long otherwise",
};

export const reasonWords = (reason: string): string => REASONS[reason] ?? visible(reason);
export const limitWords = (limit: string): string => LIMITS[limit] ?? visible(limit);

/** The glyph beside a state: colour is never the only sign. */
export const GLYPHS: Record<string, string> = {
  ready: "●",
  running: "▶",
  delayed: "◷",
  retrying: "↻",
  blocked: "□",
  parked: "□",
  succeeded: "✓",
  done: "✓",
  ok: "✓",
  failed: "✕",
  dead: "✕",
  error: "✕",
  refused: "✕",
  denied: "✕",
  cancelled: "⊘",
  expired: "⊘",
  unknown: "?",
  paused: "‖",
  unserved: "!",
  limited: "⊓",
  unreadable: "!",
  idle: "○",
  busy: "▶",
  cordoned: "⊟",
  draining: "↓",
  drained: "⊟",
  starting: "◌",
  undone: "↶",
};

export const TONES: Record<string, string> = {
  succeeded: "good", done: "good", ok: "good",
  running: "info", busy: "info", ready: "plain", idle: "plain",
  failed: "bad", dead: "bad", error: "bad", unserved: "bad", unreadable: "bad", refused: "bad", denied: "bad",
  retrying: "warn", paused: "warn", limited: "warn", draining: "warn", cordoned: "warn", drained: "warn",
};
