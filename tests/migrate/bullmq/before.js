// before.js
'use strict';

const { FlowProducer, Queue, QueueEvents, Worker } = require('bullmq');

const { hostname, port } = new URL(process.env.REDIS_URL);
const connection = { host: hostname, port: Number(port), maxRetriesPerRequest: null };

const processors = {
  price: async (job) => 100 * job.data.item.length,
  total: async (job) => {
    const prices = Object.values(await job.getChildrenValues());
    return prices.reduce((sum, price) => sum + price, job.data.shipping);
  },
  charge: async (job) => {
    if (job.attemptsMade === 0) throw new Error('the bank does not answer');
    return `order ${job.data.order} is paid, at attempt ${job.attemptsMade + 1}`;
  },
  remind: async (job) => `reminded the buyer of order ${job.data.order}`,
  refund: async (job) => {
    throw new Error(`order ${job.data.order} was never paid`);
  },
};

function work() {
  const run = (job) => {
    const processor = processors[job.name];
    return processor(job);
  };
  const worker = new Worker('shop', run, { connection, concurrency: 10 });
  process.on('SIGTERM', () => worker.close().then(() => process.exit(0)));
}

async function main() {
  const queue = new Queue('shop', { connection, defaultJobOptions: { removeOnComplete: { age: 3600 } } });
  const flow = new FlowProducer({ connection });
  const events = new QueueEvents('shop', { connection });
  await events.waitUntilReady();
  const paid = await queue.add('charge', { order: 7 }, { attempts: 4, backoff: { type: 'fixed', delay: 1000 } });
  const reminder = await queue.add('remind', { order: 7 }, { delay: 1000 });
  const refused = await queue.add('refund', { order: 8 });
  const children = ['lamp', 'table'].map((item) => ({ name: 'price', queueName: 'shop', data: { item } }));
  const both = await flow.add({ name: 'total', queueName: 'shop', data: { shipping: 50 }, children });
  const refusal = await refused.waitUntilFinished(events, 60000).catch((error) => error.message);
  const results = [
    await paid.waitUntilFinished(events, 60000),
    await reminder.waitUntilFinished(events, 60000),
    refusal,
    await both.job.waitUntilFinished(events, 60000),
  ];
  console.log(JSON.stringify(results, null, 1));
  await Promise.all([queue.close(), flow.close(), events.close()]);
}

if (process.argv[2] === 'worker') work();
else main();
