// Command plots draws the plots of docs/benchmarks.md from what the benchmarks
// have measured:
//
//	plots RESULTS OUTPUT
//
// RESULTS is the folder that the benchmarks wrote their JSON files to, OUTPUT the
// folder of the pictures.
package main

import (
	"encoding/json"
	"fmt"
	"image/color"
	"log"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

const (
	width, height = 19 * vg.Centimeter, 9 * vg.Centimeter
	dotsPerInch   = 144
)

// result is what bench writes of a benchmark.
type result struct {
	Benchmark    string        `json:"benchmark"`
	Measurements []measurement `json:"measurements"`
}

type measurement struct {
	Arm    string    `json:"arm"`
	N      int       `json:"n"`
	Metric string    `json:"metric"`
	Values []float64 `json:"values"`
}

// line is one arm of a picture.
type line struct {
	arm    string // in the result
	metric string
	label  string
	scale  float64 // from the result's unit to the axis's
	at     float64 // quantile of the rounds that is drawn, with quartiles where it is the median
}

// picture is one plot of one benchmark's result.
type picture struct {
	file, benchmark, title, x, y string
	workers                      bool // x counts standby workers: a linear axis, for 0 among them
	logY                         bool
	lines                        []line
}

func seconds(arm, label string) line {
	return line{arm: arm, metric: "seconds", label: label, scale: 1000, at: 0.5}
}

var pictures = []picture{
	{
		file: "seed", benchmark: "seed", title: "Seed of empty tables", x: "providers", y: "ms", logY: true,
		lines: []line{
			seconds("row by row", "row by row"), seconds("seed", "provwatch"), seconds("COPY", "COPY alone"),
			seconds("parse", "parsing the file"),
		},
	},
	{
		file: "sustained", benchmark: "sustained", title: "Backlog in the WAL, one change a transaction, one of ten an alert", x: "providers", y: "changes a second", logY: true,
		lines: []line{
			{arm: "bare reader, 1 news", metric: "changes per second", label: "bare reader", scale: 1, at: 0.5},
			{arm: "worker, 1 news", metric: "changes per second", label: "provwatch", scale: 1, at: 0.5},
		},
	},
	{
		file: "full", benchmark: "full", title: "Full verification, everything in sync", x: "providers", y: "ms", logY: true,
		lines: []line{
			seconds("verification", "provwatch"), seconds("SELECT, with what was recorded", "SELECT, and states"), seconds("SELECT", "SELECT"),
		},
	},
	{
		file: "standbys-latency", benchmark: "standbys", title: "From a commit to its alert", x: "standby workers", y: "ms", workers: true, logY: true,
		lines: []line{
			{arm: "notify", metric: "seconds to an alert", label: "notify, p99", scale: 1000, at: 0.99},
			{arm: "wal", metric: "seconds to an alert", label: "wal, p99", scale: 1000, at: 0.99},
			{arm: "notify", metric: "seconds to an alert", label: "notify, median", scale: 1000, at: 0.5},
			{arm: "wal", metric: "seconds to an alert", label: "wal, median", scale: 1000, at: 0.5},
		},
	},
	{
		file: "standbys-writers", benchmark: "standbys", title: "Writers at full speed", x: "standby workers", y: "transactions a second", workers: true,
		lines: []line{
			{arm: "wal", metric: "transactions per second", label: "wal", scale: 1, at: 0.5},
			{arm: "notify", metric: "transactions per second", label: "notify", scale: 1, at: 0.5},
		},
	},
	{
		file: "standbys-server", benchmark: "standbys", title: "Processor time of the server", x: "standby workers", y: "µs a transaction", workers: true,
		lines: []line{
			{arm: "notify", metric: "server's µs for a transaction", label: "notify", scale: 1, at: 0.5},
			{arm: "wal", metric: "server's µs for a transaction", label: "wal", scale: 1, at: 0.5},
		},
	},
}

// colors are those of arms, the same in each picture, and can be told apart by
// the colour-blind.
var colors = map[string]color.RGBA{
	"seed": blue, "worker, 1 news": blue, "verification": blue, "wal": blue,
	"row by row": orange, "bare reader, 1 news": orange, "SELECT, with what was recorded": orange, "notify": orange,
	"COPY": green, "SELECT": green,
	"parse": purple,
}

var (
	blue   = color.RGBA{0x00, 0x72, 0xb2, 0xff}
	orange = color.RGBA{0xd5, 0x5e, 0x00, 0xff}
	green  = color.RGBA{0x00, 0x9e, 0x73, 0xff}
	purple = color.RGBA{0x8a, 0x5a, 0x9e, 0xff}
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: plots RESULTS OUTPUT")
	}
	if err := drawAll(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func drawAll(results, output string) error {
	if err := os.MkdirAll(output, 0o755); err != nil {
		return err
	}
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	plotter.DefaultFont = plot.DefaultFont
	for _, p := range pictures {
		text, err := os.ReadFile(filepath.Join(results, p.benchmark+".json"))
		if err != nil {
			return err
		}
		var r result
		if err := json.Unmarshal(text, &r); err != nil {
			return fmt.Errorf("%s: %w", p.benchmark, err)
		}
		if err := p.draw(r, filepath.Join(output, p.file+".png")); err != nil {
			return fmt.Errorf("%s: %w", p.file, err)
		}
	}
	return nil
}

// points are values over N, with the quartiles of the rounds.
type points struct {
	plotter.XYs
	plotter.YErrors
}

func (p picture) draw(r result, path string) error {
	picture := plot.New()
	picture.Title.Text = p.title
	picture.X.Label.Text, picture.Y.Label.Text = p.x, p.y
	picture.BackgroundColor = color.White
	legend := plot.NewLegend()
	legend.Padding, legend.Left, legend.Top = vg.Points(3), true, true
	picture.Title.Padding, picture.X.Padding, picture.Y.Padding = vg.Points(8), vg.Points(4), vg.Points(4)
	if p.workers {
		picture.X.Tick.Marker = plot.ConstantTicks(ticksAt(r, p))
	} else {
		picture.X.Scale, picture.X.Tick.Marker = plot.LogScale{}, decades{}
	}
	if p.logY {
		picture.Y.Scale, picture.Y.Tick.Marker = plot.LogScale{}, decades{}
	}
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = color.Gray{0xdd}, color.Gray{0xdd}
	picture.Add(grid)

	low, high := math.Inf(1), 0.0
	for _, l := range p.lines {
		list := l.points(r)
		if len(list.XYs) == 0 {
			return fmt.Errorf("there is no %q of %q", l.metric, l.arm)
		}
		drawn, dots, err := plotter.NewLinePoints(list)
		if err != nil {
			return err
		}
		bars, err := plotter.NewYErrorBars(list)
		if err != nil {
			return err
		}
		drawn.Color, dots.Color, bars.Color = colors[l.arm], colors[l.arm], colors[l.arm]
		drawn.Width, dots.Radius, dots.Shape, bars.LineStyle.Width = vg.Points(1.8), vg.Points(3), draw.CircleGlyph{}, vg.Points(0.8)
		if l.at != 0.5 {
			drawn.Dashes = []vg.Length{vg.Points(5), vg.Points(3)}
		}
		picture.Add(drawn, dots, bars)
		legend.Add(l.label, drawn, dots)
		for j, xy := range list.XYs {
			low, high = min(low, xy.Y-list.YErrors[j].Low), max(high, xy.Y+list.YErrors[j].High)
		}
	}
	if p.logY {
		// Whole decades.
		picture.Y.Min, picture.Y.Max = math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high)))
	} else {
		picture.Y.Min, picture.Y.Max = 0, high*1.1
	}
	return save(picture, legend, path)
}

// points returns the line's points.
func (l line) points(r result) (list points) {
	var found []measurement
	for _, m := range r.Measurements {
		if m.Arm == l.arm && m.Metric == l.metric && len(m.Values) > 0 {
			found = append(found, m)
		}
	}
	slices.SortFunc(found, func(a, b measurement) int { return a.N - b.N })
	for _, m := range found {
		s := slices.Sorted(slices.Values(m.Values))
		y := quantile(s, l.at)
		var around struct{ Low, High float64 }
		if l.at == 0.5 && len(s) >= 3 {
			around.Low, around.High = (y-quantile(s, 0.25))*l.scale, (quantile(s, 0.75)-y)*l.scale
		}
		list.XYs = append(list.XYs, plotter.XY{X: float64(m.N), Y: y * l.scale})
		list.YErrors = append(list.YErrors, around)
	}
	return list
}

// quantile returns the q-th quantile of a sorted list, by the nearest rank.
func quantile(sorted []float64, q float64) float64 {
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// ticksAt returns a tick for each number of workers.
func ticksAt(r result, p picture) (ticks []plot.Tick) {
	for _, xy := range p.lines[0].points(r).XYs {
		ticks = append(ticks, plot.Tick{Value: xy.X, Label: strconv.Itoa(int(xy.X))})
	}
	return ticks
}

// decades are the ticks of a logarithmic axis, with numbers for powers of ten,
// and for others where there are few of those.
type decades struct{}

func (decades) Ticks(low, high float64) (ticks []plot.Tick) {
	few := math.Log10(high)-math.Log10(low) <= 2
	for e := math.Floor(math.Log10(low)); e <= math.Log10(high)+1e-9; e++ {
		for digit := 1.0; digit < 10; digit++ {
			value := digit * math.Pow(10, e)
			if value < low*(1-1e-9) || value > high*(1+1e-9) {
				continue
			}
			label := ""
			if digit == 1 || few && (digit == 2 || digit == 5) {
				label = thousands(value)
			}
			ticks = append(ticks, plot.Tick{Value: value, Label: label})
		}
	}
	return ticks
}

// thousands formats a number with separators.
func thousands(value float64) string {
	text := strconv.FormatFloat(value, 'g', -1, 64)
	if value >= 1 {
		text = strconv.FormatFloat(value, 'f', -1, 64)
	}
	whole, fraction, found := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if found {
		return whole + "." + fraction
	}
	return whole
}

// save writes the picture with its legend to the right, where it hides nothing.
func save(picture *plot.Plot, legend plot.Legend, path string) error {
	canvas := vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(dotsPerInch))
	margin := vg.Points(8)
	all := draw.Crop(draw.New(canvas), margin, -margin, margin, -margin)
	beside := legend.Rectangle(all).Size().X + 3*margin
	picture.Draw(draw.Crop(all, 0, -beside, 0, 0))
	legend.Draw(draw.Crop(all, all.Size().X-beside+2*margin, 0, 0, -5*margin))
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := (vgimg.PngCanvas{Canvas: canvas}).WriteTo(file); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}
