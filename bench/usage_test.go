//go:build bench

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticks is the processor time of a process in hundredths of a second, all zero
// where there is no /proc.
type ticks struct {
	ppid int
	used float64
}

func readTicks(pid int) (ticks, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ticks{}, err
	}
	_, rest, found := bytes.Cut(text, []byte(") "))
	fields := strings.Fields(string(rest))
	if !found || len(fields) < 13 {
		return ticks{}, errors.New("unknown form of /proc/…/stat")
	}
	number := func(i int) float64 { f, _ := strconv.ParseFloat(fields[i], 64); return f }
	return ticks{ppid: int(number(1)), used: number(11) + number(12)}, nil
}

// usage is the processor time that was used up to now.
type usage struct {
	at     time.Time
	pids   map[int]float64 // of ours: this process, the server's, the workers'
	all    float64         // of the machine
	parent map[int]int
}

func readUsage() usage {
	u := usage{at: time.Now(), pids: map[int]float64{}, parent: map[int]int{}}
	entries, _ := os.ReadDir("/proc")
	self := os.Getpid()
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if t, err := readTicks(pid); err == nil && (pid == self || pid == server.postmaster || t.ppid == self || t.ppid == server.postmaster) {
			u.pids[pid], u.parent[pid] = t.used, t.ppid
		}
	}
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	for i, field := range strings.Fields(line) {
		// user, nice, system, irq, softirq, steal; not idle, iowait and guest.
		if i == 1 || i == 2 || i == 3 || i >= 6 && i <= 8 {
			f, _ := strconv.ParseFloat(field, 64)
			u.all += f
		}
	}
	return u
}

// foreign returns how many processors something else than the benchmark has
// used since the earlier reading.
func (u usage) foreign(before usage) float64 {
	used := u.all - before.all
	for pid, t := range u.pids {
		used -= t - before.pids[pid]
	}
	return max(0, used/100/u.at.Sub(before.at).Seconds())
}

// cores returns how many processors some processes have used since the earlier
// reading.
func (u usage) cores(before usage, pids ...int) float64 {
	used := 0.0
	for _, pid := range pids {
		used += u.pids[pid] - before.pids[pid]
	}
	return used / 100 / u.at.Sub(before.at).Seconds()
}
