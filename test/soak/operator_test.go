//go:build soak

package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// operator silences providers, and ends silences, until ctx ends. The history
// has what a command did, also where the command failed or was killed.
func (w *world) operator(ctx context.Context, asked []fault) {
	var names []string
	for _, group := range w.groups {
		for _, p := range group {
			names = append(names, p.name)
		}
	}
	var made []string // ids of silences
	for _, f := range asked {
		if !pause(ctx, f.pause) {
			return
		}
		lasts := []string{"--for=" + f.length.String(), "--reason=soak"}
		switch f.kind {
		case "operator-silence":
			ids := w.command(ctx, opSilenced, append([]string{"silence", names[f.n%len(names)]}, lasts...)...)
			made = append(made, ids...)
			w.count(f.kind, ids != nil)
		case "operator-silence-all":
			ids := w.command(ctx, opSilenced, append([]string{"silence", "--all"}, lasts...)...)
			made = append(made, ids...)
			w.count(f.kind, ids != nil)
		case "operator-unsilence":
			if len(made) == 0 {
				w.count(f.kind, false)
				continue
			}
			last := made[len(made)-1]
			made = made[:len(made)-1]
			w.count(f.kind, w.command(ctx, opUnsilenced, "unsilence", last) != nil)
		default:
			panic(f.kind)
		}
	}
}

// moveSides gives the environment other base URLs of the moving provider, and the row others, and takes
// those of the row back, until ctx ends.
func (w *world) moveSides(ctx context.Context, moves []fault) {
	next := 0
	for _, f := range moves {
		if !pause(ctx, f.pause) {
			return
		}
		set := func(baseURL string) error {
			return w.noteInPlace("move", movingProvider().name, "UPDATE ai_providers SET base_url = '"+baseURL+"', updated_at = clock_timestamp() WHERE name = 'applied' AND NOT deleted")
		}
		var err error
		switch f.kind {
		case "operator-moves-environment":
			next++
			if err = w.noteInPlace(opVersion, strconv.Itoa(next)); err == nil {
				w.change(func(v *variables) { v.version = next })
			}
		case "operator-moves-row":
			err = set(fmt.Sprintf("https://rogue.example/%d", f.n%3))
		case "operator-moves-row-back":
			w.variables.mu.Lock()
			version := w.variables.version
			w.variables.mu.Unlock()
			err = set(movingURL(version))
		default:
			panic(f.kind)
		}
		w.count(f.kind, err == nil)
	}
}

// noteInPlace is note while the database does not move to another server.
func (w *world) noteInPlace(op, of string, statements ...string) error {
	w.moving.RLock()
	defer w.moving.RUnlock()
	return w.note(op, of, statements...)
}

// commandTime bounds a command of the operator's.
const commandTime = 15 * time.Second

// command runs a command that makes or ends silences, and returns their ids, nil where it
// failed. Its row in the history comes once it has returned: from then on each statement sees what
// it did.
func (w *world) command(ctx context.Context, op string, args ...string) (ids []string) {
	w.moving.RLock()
	defer w.moving.RUnlock()
	// A command runs to its end, also after that of the writes.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commandTime)
	defer cancel()
	command := exec.CommandContext(ctx, workerBinary, append(args, "-o", "json")...)
	command.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir(), "GORACE=halt_on_error=1 atexit_sleep_ms=0",
		"DATABASE_URL=" + w.url() + "&application_name=soak-operator",
	}
	var out, log bytes.Buffer
	command.Stdout, command.Stderr = &out, &log
	err := command.Run()
	w.mu.Lock()
	w.emitted.Write(out.Bytes())
	w.emitted.Write(log.Bytes())
	w.mu.Unlock()
	if strings.Contains(log.String(), "DATA RACE") || strings.Contains(log.String(), "panic:") {
		w.violate(ruleWorker, "worker %s:\n%s", strings.Join(args, " "), log.String())
	}
	if err != nil {
		return nil
	}
	type silence struct{ ID int64 }
	var printed struct {
		Silence  silence
		Silences []silence
	}
	if err := json.Unmarshal(out.Bytes(), &printed); err != nil {
		w.violate(ruleHistory, "worker %s prints %s", strings.Join(args, " "), out.String())
		return nil
	}
	for _, s := range append(printed.Silences, printed.Silence) {
		if s.ID != 0 {
			ids = append(ids, strconv.FormatInt(s.ID, 10))
		}
	}
	_ = w.note(op, strings.Join(ids, " ")) // without it the checker knows less
	return ids
}
