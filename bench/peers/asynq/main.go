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
	Op         string `json:"op"`
	Tasks      int64  `json:"tasks"`
	Producers  int    `json:"producers"`
	Slots      int    `json:"slots"`
	IntervalMs int    `json:"interval_ms"`
}

type reply struct {
	Event       string    `json:"event"`
	Version     string    `json:"version,omitempty"`
	Runtime     string    `json:"runtime,omitempty"`
	Error       string    `json:"error,omitempty"`
	Tasks       int64     `json:"tasks,omitempty"`
	Seconds     float64   `json:"seconds,omitempty"`
	LatenciesUs []float64 `json:"latencies_us,omitempty"`
}

type payload struct {
	At float64 `json:"at"`
}

var replies = json.NewEncoder(os.Stdout)

// now is the monotonic clock of the machine in microseconds: all processes of a run share it.
func now() float64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return float64(t.Nano()) / 1e3
}

func task(at float64) *asynq.Task {
	data, _ := json.Marshal(payload{At: at})
	// Retention 0: a finished task leaves nothing behind.
	return asynq.NewTask("noop", data, asynq.Retention(0))
}

func redisOf() asynq.RedisClientOpt {
	address, err := url.Parse(os.Getenv("REDIS_URL"))
	if err != nil {
		panic(err)
	}
	return asynq.RedisClientOpt{Addr: address.Host, PoolSize: 100}
}

func enqueue(client *asynq.Client, r request) (reply, error) {
	left := r.Tasks
	var failure atomic.Value
	var group sync.WaitGroup
	began := now()
	for range r.Producers {
		group.Add(1)
		go func() {
			defer group.Done()
			for atomic.AddInt64(&left, -1) >= 0 {
				if _, err := client.Enqueue(task(0)); err != nil {
					failure.Store(err)
					return
				}
			}
		}()
	}
	group.Wait()
	ended := now()
	if err, failed := failure.Load().(error); failed {
		return reply{}, err
	}
	return reply{Tasks: r.Tasks, Seconds: (ended - began) / 1e6}, nil
}

func enqueuePaced(client *asynq.Client, r request) (reply, error) {
	for range r.Tasks {
		if _, err := client.Enqueue(task(now())); err != nil {
			return reply{}, err
		}
		time.Sleep(time.Duration(r.IntervalMs) * time.Millisecond)
	}
	return reply{Tasks: r.Tasks}, nil
}

func work(r request) (reply, error) {
	var seen int64
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
		if p.At > 0 {
			at := now()
			lock.Lock()
			latencies = append(latencies, at-p.At)
			lock.Unlock()
		}
		if n == r.Tasks {
			ended = now()
			close(finished)
		}
		return nil
	}
	server := asynq.NewServer(redisOf(), asynq.Config{
		Concurrency:       r.Slots,
		Queues:            map[string]int{"default": 1},
		StrictPriority:    true,
		TaskCheckInterval: time.Millisecond, // asynq polls: this is what its pick-up latency depends on
		LogLevel:          asynq.ErrorLevel,
	})
	if err := server.Start(asynq.HandlerFunc(handler)); err != nil {
		return reply{}, err
	}
	_ = replies.Encode(reply{Event: "consuming"})
	<-finished
	server.Shutdown()
	return reply{Tasks: seen, Seconds: (ended - began) / 1e6, LatenciesUs: latencies}, nil
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
	operations := map[string]func(request) (reply, error){
		"enqueue":       func(r request) (reply, error) { return enqueue(client, r) },
		"enqueue_paced": func(r request) (reply, error) { return enqueuePaced(client, r) },
		"work":          work,
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
