// Asynq as a peer of the bench: `peer producer|worker` speaks JSON lines (bench/README.md).
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"golang.org/x/sys/unix"
)

type request struct {
	Op         string  `json:"op"`
	Tasks      int64   `json:"tasks"`
	Producers  int     `json:"producers"`
	Slots      int     `json:"slots"`
	IntervalMs int     `json:"interval_ms"`
	IdleMs     int     `json:"idle_ms"`
	LeadMs     float64 `json:"lead_ms"`
	SpreadMs   float64 `json:"spread_ms"`
	Task       string  `json:"task"`
	First      float64 `json:"first"`
	Step       float64 `json:"step"`
}

type reply struct {
	Event       string    `json:"event"`
	Version     string    `json:"version,omitempty"`
	Runtime     string    `json:"runtime,omitempty"`
	Error       string    `json:"error,omitempty"`
	Tasks       int64     `json:"tasks"`
	Seconds     float64   `json:"seconds,omitempty"`
	BeganUs     float64   `json:"began_us,omitempty"`
	EndedUs     float64   `json:"ended_us,omitempty"`
	LatenciesUs []float64 `json:"latencies_us,omitempty"`
	SpareMs     float64   `json:"spare_ms,omitempty"`
	*counts
}

type counts struct {
	Ready        int `json:"ready"`
	InFlight     int `json:"in_flight"`
	LeaseSeconds int `json:"lease_seconds"`
}

type payload struct {
	At float64 `json:"at"`
}

const (
	leaseSeconds = 30 // asynq's own; it cannot be set
	tracedTime   = 10 * time.Millisecond
	delayedCheck = 10 * time.Millisecond // how often it looks for what is due; its default is 5 s
)

var replies = json.NewEncoder(os.Stdout)

// now is the monotonic clock of the machine in microseconds: all processes of a run share it.
func now() float64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return float64(t.Nano()) / 1e3
}

func task(name string, at float64, options ...asynq.Option) *asynq.Task {
	data, _ := json.Marshal(payload{At: at})
	// Retention 0: a finished task leaves nothing behind.
	return asynq.NewTask(name, data, append(options, asynq.Retention(0))...)
}

func redisOf() asynq.RedisClientOpt {
	address, err := url.Parse(os.Getenv("REDIS_URL"))
	if err != nil {
		panic(err)
	}
	return asynq.RedisClientOpt{Addr: address.Host, PoolSize: 100}
}

// concurrently has so many producers send tasks 0 to r.Tasks-1.
func concurrently(producers int, r request, send func(i int64) error) (float64, error) {
	var next atomic.Int64
	var failure atomic.Value
	var group sync.WaitGroup
	began := now()
	for range producers {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := next.Add(1) - 1; i < r.Tasks; i = next.Add(1) - 1 {
				if err := send(i); err != nil {
					failure.Store(err)
					return
				}
			}
		}()
	}
	group.Wait()
	seconds := (now() - began) / 1e6
	err, _ := failure.Load().(error)
	return seconds, err
}

func nameOf(r request) string {
	if r.Task == "" {
		return "noop"
	}
	return r.Task
}

func enqueue(client *asynq.Client, r request) (reply, error) {
	seconds, err := concurrently(r.Producers, r, func(int64) error {
		_, err := client.Enqueue(task(nameOf(r), r.First))
		return err
	})
	return reply{Tasks: r.Tasks, Seconds: seconds}, err
}

// enqueueInOrder is for numbered tasks, not for being measured: asynq has no bulk enqueue.
func enqueueInOrder(client *asynq.Client, r request) (reply, error) {
	seconds, err := concurrently(1, r, func(i int64) error {
		_, err := client.Enqueue(task(nameOf(r), r.First+r.Step*float64(i)))
		return err
	})
	return reply{Tasks: r.Tasks, Seconds: seconds}, err
}

func enqueuePaced(client *asynq.Client, r request) (reply, error) {
	for range r.Tasks {
		if _, err := client.Enqueue(task("noop", now())); err != nil {
			return reply{}, err
		}
		time.Sleep(time.Duration(r.IntervalMs) * time.Millisecond)
	}
	return reply{Tasks: r.Tasks}, nil
}

func enqueueDelayed(client *asynq.Client, r request) (reply, error) {
	start := now() + r.LeadMs*1e3
	_, err := concurrently(r.Producers, r, func(i int64) error {
		at := start + float64(i)*r.SpreadMs*1e3/float64(r.Tasks)
		wait := time.Duration((at - now()) * 1e3)
		_, err := client.Enqueue(task("noop", at), asynq.ProcessIn(wait))
		return err
	})
	return reply{Tasks: r.Tasks, SpareMs: (start - now()) / 1e3}, err
}

func countsOf(inspector *asynq.Inspector) (reply, error) {
	info, err := inspector.GetQueueInfo("default")
	if err != nil {
		return reply{}, err
	}
	return reply{counts: &counts{Ready: info.Pending, InFlight: info.Active, LeaseSeconds: leaseSeconds}}, nil
}

var traceFile = sync.OnceValue(func() *os.File {
	file, err := os.OpenFile(os.Getenv("BENCH_TRACE"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		panic(err)
	}
	return file
})

func trace(what string, index float64) {
	_, _ = fmt.Fprintf(traceFile(), "%s %d %d %.0f\n", what, int(index), os.Getpid(), now())
}

func work(r request) (reply, error) {
	var seen, done int64
	var began, ended float64
	var lock sync.Mutex
	var latencies []float64
	finished := make(chan struct{})
	handler := func(_ context.Context, t *asynq.Task) error {
		var p payload
		if err := json.Unmarshal(t.Payload(), &p); err != nil {
			return err
		}
		n := atomic.AddInt64(&seen, 1)
		if n == 1 {
			began = now()
		}
		switch t.Type() {
		case "sleep":
			time.Sleep(time.Duration(p.At * 1e9))
		case "traced":
			trace("b", p.At)
			time.Sleep(tracedTime)
			trace("e", p.At)
		default:
			if p.At > 0 {
				at := now()
				lock.Lock()
				latencies = append(latencies, at-p.At)
				lock.Unlock()
			}
		}
		n = atomic.AddInt64(&done, 1)
		if n > r.Tasks {
			return nil // more than was asked for
		}
		if r.IdleMs > 0 {
			at := now()
			lock.Lock()
			ended = max(ended, at)
			lock.Unlock()
		} else if n == r.Tasks {
			ended = now()
		}
		if n == r.Tasks {
			close(finished)
		}
		return nil
	}
	server := asynq.NewServer(redisOf(), asynq.Config{
		Concurrency:              r.Slots,
		Queues:                   map[string]int{"default": 1},
		StrictPriority:           true,
		TaskCheckInterval:        time.Millisecond, // asynq polls: this is what its pick-up latency depends on
		DelayedTaskCheckInterval: delayedCheck,
		LogLevel:                 asynq.ErrorLevel,
	})
	if err := server.Start(asynq.HandlerFunc(handler)); err != nil {
		return reply{}, err
	}
	_ = replies.Encode(reply{Event: "consuming"})
	if r.IdleMs == 0 {
		<-finished
	} else {
		awaitIdle(&done, time.Duration(r.IdleMs)*time.Millisecond, finished)
	}
	server.Shutdown()
	return reply{
		Tasks: min(done, r.Tasks), Seconds: (ended - began) / 1e6, BeganUs: began, EndedUs: ended, LatenciesUs: latencies,
	}, nil
}

// awaitIdle is for one worker of several, none of which knows how many tasks it will get.
func awaitIdle(done *int64, pause time.Duration, finished <-chan struct{}) {
	for before := int64(-1); before != atomic.LoadInt64(done); {
		before = atomic.LoadInt64(done)
		select {
		case <-finished:
			return
		case <-time.After(pause):
		}
	}
}

func version() string {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == "github.com/hibiken/asynq" {
			return module.Version[1:]
		}
	}
	return "unknown"
}

func main() {
	client := asynq.NewClient(redisOf())
	inspector := asynq.NewInspector(redisOf())
	operations := map[string]func(request) (reply, error){
		"counts":          func(request) (reply, error) { return countsOf(inspector) },
		"enqueue_bulk":    func(r request) (reply, error) { return enqueueInOrder(client, r) },
		"enqueue_delayed": func(r request) (reply, error) { return enqueueDelayed(client, r) },
		"enqueue":         func(r request) (reply, error) { return enqueue(client, r) },
		"enqueue_paced":   func(r request) (reply, error) { return enqueuePaced(client, r) },
		"work":            work,
	}
	_ = replies.Encode(reply{Event: "ready", Version: version(), Runtime: "Go " + runtime.Version()[2:]})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			_ = replies.Encode(reply{Event: "error", Error: err.Error()})
			continue
		}
		operation, known := operations[r.Op]
		if !known {
			_ = replies.Encode(reply{Event: "error", Error: fmt.Sprintf("no operation %q", r.Op)})
			continue
		}
		answer, err := operation(r)
		if err != nil {
			answer = reply{Error: err.Error()}
			answer.Event = "error"
		} else {
			answer.Event = "done"
		}
		_ = replies.Encode(answer)
	}
}
