//go:build soak

package soak

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"provwatch/internal/dbcrypt/dbcrypttest"
)

// workers' sessions are those of applications named w0.1, w2.17-listener, …
const workersSessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ '^w[0-9]'"

// nemesis injects the scheduled faults until ctx ends, and mends everything. It
// alone stops the server.
func (w *world) nemesis(ctx context.Context) {
	var pending sync.WaitGroup
	// until undoes something after a while, or at the end.
	until := func(length time.Duration, undo func()) {
		pending.Go(func() {
			pause(ctx, length)
			undo()
		})
	}
	reloaded := false
	for i, f := range w.schedule.faults {
		if !pause(ctx, f.pause) {
			break
		}
		if !reloaded && f.kind == "reload" {
			reloaded = true
			pending.Go(func() { w.join(ctx) })
			w.count(f.kind, true)
			continue
		}
		w.count(f.kind, w.inject(ctx, f, fmt.Sprintf("fault-%d", i), until))
	}
	<-ctx.Done()
	pending.Wait()
	for _, p := range w.workers {
		p.signal(syscall.SIGCONT, false)
	}
	w.lend()
}

func (w *world) count(kind string, done bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if done {
		w.faults[kind]++
	} else {
		w.skipped[kind]++
	}
}

// target returns the worker that a fault is for, nil when it is for the leader and no
// worker leads.
func (w *world) target(ctx context.Context, f fault) *worker {
	target := w.workers[f.worker]
	if *keep != "" {
		fmt.Printf("%s soak %s: next is %s\n", time.Now().Format("15:04:05.000"), w.source, f.kind)
	}
	switch {
	case strings.Contains(f.kind, "standby"):
		target = w.standby()
	case strings.Contains(f.kind, "leader") && f.kind != "terminate-leader":
		target = w.leader(ctx)
	}
	if *keep != "" && target != nil {
		fmt.Printf("%s soak %s: %s on worker %d for %s\n", time.Now().Format("15:04:05.000"), w.source, f.kind, target.index, f.length)
	}
	return target
}

// inject injects one fault. It reports false when there was nothing to be broken.
func (w *world) inject(ctx context.Context, f fault, name string, until func(time.Duration, func())) bool {
	target := w.target(ctx, f)
	if target == nil {
		return false
	}
	thaw := func() { target.signal(syscall.SIGCONT, false) }
	ms := func(low, span int) int { return low + f.n%span }
	switch f.kind {
	case "kill", "kill-leader":
		return target.signal(syscall.SIGKILL, true)
	case "stop":
		return !target.isFrozen() && target.signal(syscall.SIGTERM, true)
	case "clock":
		if exec.Command("unshare", "--time", "--monotonic", "1000", "true").Run() != nil {
			return false
		}
		target.mu.Lock()
		target.moveClock = int64(1000 + f.n*1000)
		target.mu.Unlock()
		return target.signal(syscall.SIGKILL, true)
	case "freeze", "freeze-leader", "freeze-standby":
		if target.isFrozen() || !target.signal(syscall.SIGSTOP, false) {
			return false
		}
		until(f.length, thaw)
	case "freeze-and-terminate-leader":
		if target.isFrozen() || !target.signal(syscall.SIGSTOP, false) {
			return false
		}
		until(f.length, thaw)
		return w.exec(ctx, terminateLeader)
	case "restart-server":
		w.cluster.Stop(w.t, "immediate")
		pause(ctx, time.Duration(f.n)*time.Millisecond)
		w.cluster.StartAgain(w.t)
	case "freeze-server":
		processes := w.cluster.Freeze(w.t)
		pause(ctx, f.length)
		w.cluster.Thaw(processes...)
	case "freeze-listener", "freeze-walsender", "freeze-pool":
		return w.freezeSession(ctx, f, until)
	case "switch-over", "fail-over":
		return w.failOver(ctx, f.kind == "switch-over")
	case "full-disk":
		return w.fillDisk(ctx, f.length)
	case "connections":
		until(0, func() { w.useUp(ctx, f.length) })
	case "server-clock":
		return w.clock != nil && w.clock.jump(f.n)
	case "worker-clock":
		return target.clock.jump(f.n)
	case "terminate-all":
		return w.exec(ctx, workersSessions)
	case "terminate-some":
		return w.exec(ctx, workersSessions+" AND random() < 0.5")
	case "terminate-walsender":
		return w.exec(ctx, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active AND slot_name LIKE 'provwatch%'")
	case "terminate-leader":
		return w.exec(ctx, terminateLeader)
	case "cut":
		target.unplug()
		until(f.length, target.replug)
	case "silence":
		until(f.length*2, both(target, name, "timeout", `{"timeout": 0}`))
	case "silence-leader-and-terminate":
		// Its listening session ends at the server, and it cannot know.
		until(f.length*2, target.toxic(name, "timeout", "downstream", `{"timeout": 0}`))
		pause(ctx, 100*time.Millisecond)
		return w.exec(ctx, terminateLeader)
	case "half-silence":
		until(f.length, target.toxic(name, "timeout", []string{"upstream", "downstream"}[f.n%2], `{"timeout": 0}`))
	case "latency":
		until(f.length, both(target, name, "latency", fmt.Sprintf(`{"latency": %d, "jitter": %d}`, ms(5, 400), ms(0, 200))))
	case "bandwidth":
		until(f.length, target.toxic(name, "bandwidth", "downstream", fmt.Sprintf(`{"rate": %d}`, ms(1, 20))))
	case "slicer":
		until(f.length, both(target, name, "slicer", fmt.Sprintf(`{"average_size": %d, "size_variation": 1, "delay": 200}`, ms(2, 60))))
	case "cut-inside":
		// Every stream ends after so many bytes, mostly inside a message.
		until(f.length, target.toxic(name, "limit_data", []string{"upstream", "downstream"}[f.n%2], fmt.Sprintf(`{"bytes": %d}`, ms(50, 997)*3)))
	case "reset":
		until(f.length, target.toxic(name, "reset_peer", "downstream", `{"timeout": 0}`))
	case "drop-slot":
		return w.dropSlot(ctx)
	case "wal":
		return w.exec(ctx, "REINDEX TABLE soak.ballast") && w.exec(ctx, "SELECT pg_switch_wal()")
	case "flood":
		until(0, func() { w.flood(ctx, f.length) })
	case "forged":
		return w.exec(ctx, fmt.Sprintf("SELECT pg_notify('ai_providers_changed', CASE n %% 3 WHEN 0 THEN '' WHEN 1 THEN gen_random_uuid()::text ELSE repeat('x', %d) END) FROM generate_series(1, 2000) n", ms(1, 7000)))
	case "reload":
		for _, p := range w.workers {
			p.hangUp()
		}
	case "keys":
		w.change(func(v *variables) { v.swapped, v.lent = f.n%2 == 0, f.n/2%4 })
		for _, p := range w.workers {
			p.hangUp()
		}
	case "damage-keys":
		until(f.length, func() {
			for _, key := range []dbcrypttest.Key{firstKey, secondKey, lentKey} {
				for !w.exec(context.Background(), fmt.Sprintf("UPDATE dbcrypt_keys SET test = '%s' WHERE active_key_digest = '%s'", key.Encrypt("coder"), key.Digest())) {
					time.Sleep(100 * time.Millisecond)
				}
			}
		})
		return w.exec(ctx, "UPDATE dbcrypt_keys SET test = 'AAAA'")
	case "long-transaction":
		until(0, func() { w.longTransaction(ctx, f.length) })
	default:
		panic(f.kind)
	}
	return true
}

const terminateLeader = "SELECT pg_terminate_backend(pid) FROM (" + leaderLock + ") AS leader"

func both(l interface {
	toxic(name, kind, stream, attributes string) func()
}, name, kind, attributes string) func() {
	up := l.toxic(name+"-up", kind, "upstream", attributes)
	down := l.toxic(name+"-down", kind, "downstream", attributes)
	return func() {
		up()
		down()
	}
}

// exec runs a statement as an operator would, and reports whether it could.
func (w *world) exec(ctx context.Context, sql string) bool {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	w.moving.RLock()
	defer w.moving.RUnlock()
	conn, err := pgx.Connect(ctx, w.url()+"&application_name=soak-nemesis")
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close(context.Background()) }()
	tag, err := conn.Exec(ctx, sql)
	return err == nil && (!strings.HasPrefix(sql, "SELECT") || tag.RowsAffected() > 0)
}

// leader returns the worker whose session holds the leader's lock, nil for none.
func (w *world) leader(ctx context.Context) *worker {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.url()+"&application_name=soak-nemesis")
	if err != nil {
		return nil
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var name string
	if conn.QueryRow(ctx, "SELECT l.coalesce FROM ("+leaderLock+") AS l").Scan(&name) != nil {
		return nil
	}
	for _, p := range w.workers {
		if strings.HasPrefix(name, fmt.Sprintf("w%d.", p.index)) {
			return p
		}
	}
	return nil
}

// standby returns a worker that does not lead.
func (w *world) standby() *worker {
	leader := w.leader(context.Background())
	for _, p := range w.workers {
		if p != leader {
			return p
		}
	}
	panic("unreachable")
}

// dropSlot drops the worker's slot, ending whoever streams from it.
func (w *world) dropSlot(ctx context.Context) bool {
	for range 50 {
		if w.exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name LIKE 'provwatch%' AND database = current_database()
			AND (NOT active OR pg_terminate_backend(active_pid, 2000))`) {
			w.mu.Lock()
			w.dropped++
			w.mu.Unlock()
			return true
		}
		if !pause(ctx, 20*time.Millisecond) {
			break
		}
	}
	return false
}

// flood fills the queue of notifications, as far as is bounded where it takes 8
// GB, while a session that listens stays in a transaction and so keeps the
// queue's tail. Where it is full every transaction that notifies fails.
func (w *world) flood(ctx context.Context, length time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, length+5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.url()+"&application_name=soak-flood")
	if err != nil {
		return
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for _, sql := range []string{"LISTEN soak_flood", "BEGIN", "SELECT 1"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return
		}
	}
	// 100,000 notifications, 80 MB of the queue, few in a transaction, since what
	// a refused transaction has put there nobody is told to read.
	flooder, err := pgx.Connect(ctx, w.url()+"&application_name=soak-nemesis")
	if err != nil {
		return
	}
	defer func() { _ = flooder.Close(context.Background()) }()
	for range 1000 {
		if _, err = flooder.Exec(ctx, "SELECT pg_notify('soak_flood', n || repeat('x', 800)) FROM generate_series(1, 100) n"); err != nil {
			break
		}
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Message == "too many notifications in the NOTIFY queue" {
		w.mu.Lock()
		w.faults["queue-full"]++
		w.mu.Unlock()
	}
	pause(ctx, length)
}

// longTransaction writes and stays open, which holds up the creation of a slot.
func (w *world) longTransaction(ctx context.Context, length time.Duration) {
	conn, err := pgx.Connect(ctx, w.url()+"&application_name=soak-long")
	if err != nil {
		return
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(ctx, "BEGIN; UPDATE soak.ballast SET n = n WHERE n = 1"); err == nil {
		pause(ctx, length)
	}
}

// hangUp makes the worker read its environment again, and says so again for as
// long as it could not.
func (p *worker) hangUp() {
	p.signal(syscall.SIGHUP, !p.logged("msg=ready"))
}

// reread makes all workers read the environment file as it is now. What it returns
// reports whether they have, and asks those again that have not.
func (w *world) reread() (done func() bool) {
	lives, before := make([]int, len(w.workers)), make([]int, len(w.workers))
	for i, p := range w.workers {
		lives[i], before[i] = p.readings()
	}
	return func() bool {
		all := true
		for i, p := range w.workers {
			// The first of two readings can have begun before.
			if life, readings := p.readings(); life == lives[i] && readings < before[i]+2 {
				all = false
				if !p.isFrozen() {
					p.hangUp()
				}
			}
		}
		return all
	}
}

// lend lends the key to all workers for good.
func (w *world) lend() {
	w.change(func(v *variables) { v.lent = max(v.lent, 1) })
	hasRead := w.reread()
	for deadline := time.Now().Add(settleTime); !hasRead(); time.Sleep(500 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.violate(ruleConverge, "not all workers have read the environment again within %s", settleTime)
			return
		}
	}
}

// join adds the late providers to the environment: each worker reads it again,
// and the one that is started anew after that seeds them.
func (w *world) join(ctx context.Context) {
	names := ""
	for _, group := range w.groups {
		for _, p := range group {
			if p.late {
				names += " " + p.name
			}
		}
	}
	names = strings.TrimSpace(names)
	for w.note("join", names) != nil {
		time.Sleep(100 * time.Millisecond)
	}
	w.change(func(v *variables) { v.late = true })
	hasRead := w.reread()
	// The environment grows for good; it does so also when the run ends meanwhile.
	// Faults go on meanwhile, and some keep workers from starting.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), joinTime)
	defer cancel()
	restarted := false
	for {
		all := hasRead()
		recorded := w.recorded()
		if all && !restarted {
			restarted = w.workers[0].signal(syscall.SIGTERM, true)
		}
		if all && restarted && recorded["late-0"] == inSync && recorded["late-1"] == inSync {
			break
		}
		if !pause(ctx, 500*time.Millisecond) {
			w.violate(ruleConverge, "the late providers did not join within %s", joinTime)
			return
		}
	}
	for w.note("joined", names) != nil {
		time.Sleep(100 * time.Millisecond)
	}
	fmt.Printf("soak %s: %s joined\n", w.source, names)
}
