// BullMQ as a peer of the bench: `node peer.js producer|worker` speaks JSON lines (bench/README.md).
'use strict';

const fs = require('node:fs');
const readline = require('node:readline');
const { Queue, QueueEvents, Worker } = require('bullmq');
const bullmqVersion = require('bullmq/package.json').version;

const NAME = 'bench';
const LOCK_SECONDS = 30; // BullMQ's own default
const TRACED_MS = 10;
const BULK = 100; // jobs per addBulk: the fastest of 100, 1,000, 5,000 and 20,000

// Results off: a finished job leaves nothing behind.
const KEPT = process.env.BENCH_RESULTS === '1'; // a caller waits for them
const JOB_OPTIONS = { removeOnComplete: !KEPT, removeOnFail: true };

const { hostname, port } = new URL(process.env.REDIS_URL);
const connection = { host: hostname, port: Number(port), maxRetriesPerRequest: null };

const say = (message) => process.stdout.write(JSON.stringify(message) + '\n');
// The monotonic clock of the machine: all processes of a run share it.
const now = () => Number(process.hrtime.bigint()) / 1e3;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// What the tasks do: see bench/protocol.py.
let traceFile;
function trace(what, index) {
  traceFile ??= fs.openSync(process.env.BENCH_TRACE, 'a');
  fs.writeSync(traceFile, `${what} ${index} ${process.pid} ${now().toFixed(0)}\n`);
}
const TASKS = {
  noop: null,
  sleep: (seconds) => pause(seconds * 1000),
  traced: async (index) => {
    trace('b', index);
    await pause(TRACED_MS);
    trace('e', index);
  },
};

function producer() {
  const queue = new Queue(NAME, { connection, defaultJobOptions: JOB_OPTIONS });
  const concurrently = async (producers, one) => {
    await Promise.all(Array.from({ length: producers }, one));
  };
  return {
    async enqueue({ tasks, producers, task = 'noop', first = 0 }) {
      let left = tasks;
      const began = now();
      await concurrently(producers, async () => {
        while (left-- > 0) await queue.add(task, { at: first });
      });
      return { tasks, seconds: (now() - began) / 1e6 };
    },
    async enqueue_bulk({ tasks, task = 'noop', first = 0, step = 0 }) {
      const began = now();
      for (let done = 0; done < tasks; done += BULK) {
        const size = Math.min(BULK, tasks - done);
        await queue.addBulk(Array.from({ length: size }, (_, i) => ({ name: task, data: { at: first + step * (done + i) } })));
      }
      return { tasks, seconds: (now() - began) / 1e6 };
    },
    async enqueue_paced({ tasks, interval_ms }) {
      for (let i = 0; i < tasks; i++) {
        await queue.add('noop', { at: now() });
        await pause(interval_ms);
      }
      return { tasks };
    },
    async call_paced({ tasks, interval_ms }) {
      const events = new QueueEvents(NAME, { connection });
      await events.waitUntilReady();
      const latencies = [];
      for (let i = 0; i < tasks; i++) {
        const began = now();
        const job = await queue.add('echo', { at: began });
        if ((await job.waitUntilFinished(events)) !== began) throw new Error('the result is not what the task has returned');
        latencies.push(now() - began);
        await pause(interval_ms);
      }
      await events.close();
      return { tasks, latencies_us: latencies };
    },
    async enqueue_delayed({ tasks, producers, lead_ms, spread_ms }) {
      const start = now() + lead_ms * 1e3;
      let next = 0;
      await concurrently(producers, async () => {
        while (next < tasks) {
          const at = start + (next++ * spread_ms * 1e3) / tasks;
          await queue.add('noop', { at }, { delay: Math.round((at - now()) / 1e3) });
        }
      });
      return { tasks, spare_ms: (start - now()) / 1e3 };
    },
    async counts() {
      const { waiting, active } = await queue.getJobCounts('waiting', 'active');
      return { ready: waiting, in_flight: active, lease_seconds: LOCK_SECONDS };
    },
  };
}

function worker() {
  return {
    async work({ tasks, slots, idle_ms = 0 }) {
      let seen = 0;
      let began = 0;
      let ended = 0;
      const latencies = [];
      let finish;
      const finished = new Promise((resolve) => { finish = resolve; });
      const consumer = new Worker(NAME, async (job) => {
        if (seen >= tasks) return; // more than was asked for
        if (!began) began = now();
        const run = TASKS[job.name];
        if (run) await run(job.data.at);
        else if (job.data.at > 0) latencies.push(now() - job.data.at);
        if (++seen === tasks || idle_ms) ended = now();
        if (seen === tasks) finish();
        return job.name === 'echo' ? job.data.at : undefined;
      }, {
        connection,
        concurrency: slots,
        lockDuration: LOCK_SECONDS * 1000,
        removeOnComplete: { count: KEPT ? 1000 : 0 },
        removeOnFail: { count: 0 },
        drainDelay: 5,
      });
      consumer.on('error', (error) => console.error(error.message));
      await consumer.waitUntilReady();
      say({ event: 'consuming' });
      let before = -1;
      const idle = idle_ms && setInterval(() => { // one worker of several
        if (seen === before) finish();
        before = seen;
      }, idle_ms);
      await finished;
      if (idle) clearInterval(idle);
      await consumer.close();
      return { tasks: seen, seconds: (ended - began) / 1e6, began_us: began, ended_us: ended, latencies_us: latencies };
    },
  };
}

const operations = process.argv[2] === 'worker' ? worker() : producer();
say({ event: 'ready', version: bullmqVersion, runtime: `Node ${process.versions.node}` });
const lines = readline.createInterface({ input: process.stdin });
lines.on('line', async (line) => {
  const request = JSON.parse(line);
  try {
    say({ event: 'done', ...(await operations[request.op](request)) });
  } catch (error) {
    say({ event: 'error', error: String(error.message) });
  }
});
lines.on('close', () => process.exit(0)); // the bench is gone, or done with us
