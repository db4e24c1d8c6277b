// BullMQ as a peer of the bench: `node peer.js producer|worker` speaks JSON lines (bench/README.md).
'use strict';

const readline = require('node:readline');
const { Queue, Worker } = require('bullmq');
const bullmqVersion = require('bullmq/package.json').version;

const NAME = 'bench';
const BULK = 100; // jobs per addBulk: the fastest of 100, 1,000, 5,000 and 20,000

// Results off: a finished job leaves nothing behind.
const JOB_OPTIONS = { removeOnComplete: true, removeOnFail: true };

const { hostname, port } = new URL(process.env.REDIS_URL);
const connection = { host: hostname, port: Number(port), maxRetriesPerRequest: null };

const say = (message) => process.stdout.write(JSON.stringify(message) + '\n');
// The monotonic clock of the machine: all processes of a run share it.
const now = () => Number(process.hrtime.bigint()) / 1e3;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function producer() {
  const queue = new Queue(NAME, { connection, defaultJobOptions: JOB_OPTIONS });
  return {
    async enqueue({ tasks, producers }) {
      let left = tasks;
      const one = async () => {
        while (left-- > 0) await queue.add('noop', { at: 0 });
      };
      const began = now();
      await Promise.all(Array.from({ length: producers }, one));
      return { tasks, seconds: (now() - began) / 1e6 };
    },
    async enqueue_bulk({ tasks }) {
      const began = now();
      for (let done = 0; done < tasks; done += BULK) {
        const size = Math.min(BULK, tasks - done);
        await queue.addBulk(Array.from({ length: size }, () => ({ name: 'noop', data: { at: 0 } })));
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
  };
}

function worker() {
  return {
    async work({ tasks, slots }) {
      let seen = 0;
      let began = 0;
      let ended = 0;
      const latencies = [];
      let finish;
      const finished = new Promise((resolve) => { finish = resolve; });
      const consumer = new Worker(NAME, async (job) => {
        if (seen++ === 0) began = now();
        if (job.data.at > 0) latencies.push(now() - job.data.at);
        if (seen === tasks) {
          ended = now();
          finish();
        }
      }, {
        connection,
        concurrency: slots,
        removeOnComplete: { count: 0 },
        removeOnFail: { count: 0 },
        drainDelay: 5,
      });
      consumer.on('error', (error) => console.error(error.message));
      await consumer.waitUntilReady();
      say({ event: 'consuming' });
      await finished;
      await consumer.close();
      return { tasks: seen, seconds: (ended - began) / 1e6, latencies_us: latencies };
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
