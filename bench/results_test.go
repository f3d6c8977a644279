//go:build bench

package bench

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"testing"
)

// result is what a benchmark has measured, in the form that the plots are made
// from.
type result struct {
	Benchmark    string        `json:"benchmark"`
	Server       string        `json:"server"`
	Go           string        `json:"go"`
	CPUs         int           `json:"cpus"`
	Fsync        string        `json:"fsync"`
	ForeignCores float64       `json:"foreign_cores"` // processors that others used meanwhile
	Measurements []measurement `json:"measurements"`

	began usage
}

// measurement is one quantity of one arm, a value for each round.
type measurement struct {
	Arm    string    `json:"arm"`
	N      int       `json:"n"` // what the arm's cost is to be seen over: providers, or workers
	Metric string    `json:"metric"`
	Values []float64 `json:"values"`
}

func newResult(benchmark string) *result {
	return &result{
		Benchmark: benchmark, Server: server.version, Go: runtime.Version(), CPUs: runtime.NumCPU(), Fsync: *fsync,
		began: readUsage(),
	}
}

// add adds values to a measurement.
func (r *result) add(arm string, n int, metric string, values ...float64) {
	for i := range r.Measurements {
		if m := &r.Measurements[i]; m.Arm == arm && m.N == n && m.Metric == metric {
			m.Values = append(m.Values, values...)
			return
		}
	}
	r.Measurements = append(r.Measurements, measurement{Arm: arm, N: n, Metric: metric, Values: values})
}

// of returns the values of a measurement, nil if there is none.
func (r *result) of(arm string, n int, metric string) []float64 {
	for _, m := range r.Measurements {
		if m.Arm == arm && m.N == n && m.Metric == metric {
			return m.Values
		}
	}
	return nil
}

// ratios returns, by round, what one arm has of a metric over what another has.
func (r *result) ratios(arm, of string, n int, metric string) []float64 {
	a, b := r.of(arm, n, metric), r.of(of, n, metric)
	var list []float64
	for i := range min(len(a), len(b)) {
		list = append(list, a[i]/b[i])
	}
	return list
}

// close ends the benchmark and writes the result to a file.
func (r *result) close(b *testing.B) {
	b.Helper()
	r.ForeignCores = readUsage().foreign(r.began)
	encoded, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		b.Fatal(err)
	}
	if err := os.MkdirAll(*results, 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*results, r.Benchmark+".json"), append(encoded, '\n'), 0o644); err != nil {
		b.Fatal(err)
	}
}

// profiled does something while this process is profiled, if profiles are asked
// for; otherwise it does nothing.
func profiled(b *testing.B, name string, do func()) {
	b.Helper()
	if *profile == "" {
		return
	}
	if err := os.MkdirAll(*profile, 0o755); err != nil {
		b.Fatal(err)
	}
	file, err := os.Create(filepath.Join(*profile, name+".pprof"))
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	if err := pprof.StartCPUProfile(file); err != nil {
		b.Fatal(err)
	}
	defer pprof.StopCPUProfile()
	do()
}
