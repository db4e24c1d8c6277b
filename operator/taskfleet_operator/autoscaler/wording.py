"""The reasons, limits and terms of a decision in the words of people."""

from __future__ import annotations

# What keeps the number from the one that was recommended, and what would change that.
LIMITS = {
    "TooFewReplicas": ("minReplicas does not allow fewer", "a smaller minReplicas would allow fewer"),
    "TooManyReplicas": ("maxReplicas does not allow more", "a larger maxReplicas would allow more"),
    "Cooldown": ("the cooldown is not over", "it goes to zero when the cooldown is over; cooldownSeconds sets it"),
    "ForceActivation": ("it is kept active by an annotation", "without that annotation it may go to zero"),
    "PausedScaleIn": ("scaling in is paused by an annotation", "without that annotation it becomes smaller"),
    "PausedScaleOut": ("scaling out is paused by an annotation", "without that annotation it becomes larger"),
    "ScaleUpStabilized": ("the window of scaleUp waits for a lasting need", "a need that lasts as long as that window"),
    "ScaleDownStabilized": (
        "the window of scaleDown holds the largest number within it", "when the window has passed, it becomes smaller",
    ),
    "ScaleUpLimit": ("the policies of scaleUp allow no larger step", "it goes on with the next step"),
    "ScaleDownLimit": ("the policies of scaleDown allow no larger step", "it goes on with the next step"),
    "MaxPendingReplicas": ("replicas that were asked for have not started", "it goes on when they have started"),
    "BusyWorkers": ("busy workers are not taken away", "when their tasks have ended, it becomes smaller"),
    "JustStarted": ("workers have just started", "when they have worked for a while"),
    "LateTasks": ("tasks would wait too long otherwise", "when they have started"),
    "SuspectSample": ("the figures were not plausible a moment ago", "it goes on after a while of plausible figures"),
    "RolloutUnderWay": ("a rollout is under way", "it goes on when the rollout has ended"),
    "BusyPodNotReady": ("Kubernetes would take a busy pod first", "it goes on when that pod is ready"),
}  # fmt: skip
REASONS = {
    "DrainTime": "the tasks that wait and arrive are to be worked off within the target time",
    "BacklogPerReplica": "there is no history yet, so each replica is given a number of waiting tasks",
    "Threshold": "ready tasks per worker are compared with two thresholds",
    "Idle": "there is nothing to do",
    "Activated": "there is something to do, and no worker yet",
    "Panic": "tasks wait or arrive so fast that the last seconds count alone",
    "Disabled": "a person or another autoscaler sets the number",
    "Suspended": "the TaskQueue is suspended",
    "Paused": "the autoscaler is paused",
    "Fallback": "the figures could not be read, so the fallback decides",
    "SampleFailed": "the figures could not be read, so the number is held",
    "SuspectSample": "the figures are not plausible, so the number is held",
    "WithinTolerance": "another number would be within the tolerance of this one, or be a matter of chance",
}
TERMS = {
    "arrivals_per_second": "tasks that arrive in a second",
    "panic_arrivals_per_second": "the same, of the last seconds",
    "service_seconds": "seconds that a task keeps a slot",
    "effective_drain_seconds": "seconds in which the backlog is to be gone",
    "start_latency_seconds": "seconds until a new worker works", "backlog": "ready tasks",
    "in_flight": "tasks that run",
    "due": "delayed tasks that are due soon", "oldest_age_seconds": "seconds that the oldest ready task has waited",
    "steady_slots": "slots for what arrives", "drain_slots": "slots for what waits",
    "late_slots": "slots for tasks that would wait too long otherwise", "slots": "slots that are needed",
    "slots_per_replica": "slots of one worker", "recommended_replicas": "workers by the formula alone",
    "panic_replicas": "workers by the last seconds alone", "busy_workers": "workers that run a task",
    "panicking": "whether the last seconds count (1) or not (0)",
}  # fmt: skip
