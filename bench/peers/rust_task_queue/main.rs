// rust-task-queue as a peer of the bench: `peer producer|worker` speaks JSON lines (bench/README.md).
use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rust_task_queue::queue::queue_names::DEFAULT;
use rust_task_queue::{RedisBroker, Task, TaskRegistry, TaskResult, TaskScheduler, Worker};
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};
use tokio::sync::Notify;

const VERSION: &str = "0.1.5"; // Cargo.toml pins it
const CONNECTIONS: usize = 128; // more than producers or slots
const BULK: usize = 1000; // tasks per enqueue_tasks_batch

type Failure = Box<dyn std::error::Error + Send + Sync>;

// What the tasks of one measurement see. Times are microseconds of the machine's monotonic clock.
static LEFT: AtomicI64 = AtomicI64::new(0);
static BEGAN: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);
static LATENCIES: Mutex<Vec<f64>> = Mutex::new(Vec::new());
static FINISHED: Notify = Notify::const_new();

fn now() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

fn begin() {
    let _ = BEGAN.compare_exchange(0, now() as u64, SeqCst, SeqCst);
}

fn note(at: f64) {
    begin();
    if at > 0.0 {
        LATENCIES.lock().unwrap().push(now() - at);
    }
    ENDED.fetch_max(now() as u64, SeqCst);
    if LEFT.fetch_sub(1, SeqCst) == 1 {
        FINISHED.notify_one();
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Noop {
    at: f64,
}

#[async_trait]
impl Task for Noop {
    async fn execute(&self) -> TaskResult {
        note(self.at);
        Ok(Vec::new())
    }

    fn name(&self) -> &str {
        "noop"
    }
}

async fn connect() -> Result<Arc<RedisBroker>, Failure> {
    let url = std::env::var("REDIS_URL")?;
    Ok(Arc::new(RedisBroker::new_with_config(&url, Some(CONNECTIONS)).await?))
}

fn number(request: &Value, name: &str) -> i64 {
    request[name].as_i64().unwrap_or(0)
}

async fn enqueue(broker: &Arc<RedisBroker>, request: &Value) -> Result<Value, Failure> {
    let tasks = number(request, "tasks");
    let left = Arc::new(AtomicI64::new(tasks));
    let began = now();
    let producers: Vec<_> = (0..number(request, "producers"))
        .map(|_| {
            let (broker, left) = (broker.clone(), left.clone());
            tokio::spawn(async move {
                while left.fetch_sub(1, SeqCst) > 0 {
                    broker.enqueue_task(Noop { at: 0.0 }, DEFAULT).await?;
                }
                Ok::<(), rust_task_queue::TaskQueueError>(())
            })
        })
        .collect();
    for producer in producers {
        producer.await??;
    }
    Ok(json!({"tasks": tasks, "seconds": (now() - began) / 1e6}))
}

async fn enqueue_bulk(broker: &RedisBroker, request: &Value) -> Result<Value, Failure> {
    let tasks = number(request, "tasks") as usize;
    let began = now();
    for first in (0..tasks).step_by(BULK) {
        let size = BULK.min(tasks - first);
        broker.enqueue_tasks_batch(vec![(Noop { at: 0.0 }, DEFAULT); size]).await?;
    }
    Ok(json!({"tasks": tasks, "seconds": (now() - began) / 1e6}))
}

async fn enqueue_paced(broker: &RedisBroker, request: &Value) -> Result<Value, Failure> {
    let pause = Duration::from_millis(number(request, "interval_ms") as u64);
    for _ in 0..number(request, "tasks") {
        broker.enqueue_task(Noop { at: now() }, DEFAULT).await?;
        tokio::time::sleep(pause).await;
    }
    Ok(json!({"tasks": request["tasks"]}))
}

async fn work(request: &Value) -> Result<Value, Failure> {
    let tasks = number(request, "tasks");
    let idle = Duration::from_millis(number(request, "idle_ms") as u64);
    LEFT.store(tasks, SeqCst);
    BEGAN.store(0, SeqCst);
    ENDED.store(0, SeqCst);
    LATENCIES.lock().unwrap().clear();
    // A broker for each measurement: a worker that has stopped leaves a BRPOP behind in its pool, which takes a task.
    let broker = connect().await?;
    let registry = Arc::new(TaskRegistry::new());
    registry.register_with_name::<Noop>("noop")?;
    let name = format!("bench-{}", std::process::id());
    let worker = Worker::new(name, broker.clone(), Arc::new(TaskScheduler::new(broker.clone())))
        .with_task_registry(registry)
        .with_max_concurrent_tasks(number(request, "slots") as usize)
        .start()
        .await?;
    say(json!({"event": "consuming"}));
    if idle.is_zero() {
        FINISHED.notified().await;
    } else {
        // One worker of several, none of which knows how many tasks it will get.
        loop {
            let left = LEFT.load(SeqCst);
            if tokio::time::timeout(idle, FINISHED.notified()).await.is_ok() || LEFT.load(SeqCst) == left {
                break;
            }
        }
    }
    worker.stop().await;
    let (began, ended) = (BEGAN.load(SeqCst) as f64, ENDED.load(SeqCst) as f64);
    Ok(json!({
        "tasks": tasks - LEFT.load(SeqCst),
        "seconds": (ended - began) / 1e6,
        "began_us": began,
        "ended_us": ended,
        "latencies_us": *LATENCIES.lock().unwrap(),
    }))
}

fn say(message: Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{message}").and_then(|()| out.flush()).expect("the bench reads");
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let broker = connect().await?;
    say(json!({"event": "ready", "version": VERSION, "runtime": "Rust, tokio"}));
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let answer = match request["op"].as_str().unwrap_or_default() {
            "enqueue" => enqueue(&broker, &request).await,
            "enqueue_bulk" => enqueue_bulk(&broker, &request).await,
            "enqueue_paced" => enqueue_paced(&broker, &request).await,
            "work" => work(&request).await,
            other => Err(format!("no operation {other:?}").into()),
        };
        say(match answer {
            Ok(mut reply) => {
                reply["event"] = json!("done");
                reply
            }
            Err(error) => json!({"event": "error", "error": error.to_string()}),
        });
    }
    Ok(())
}
