// Command worker is the provwatch daemon and its tools: it seeds AI providers
// from the environment into Postgres, watches both for drift, and publishes
// alerts.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"
)

// sameSignal is how close together two signals count as one.
const sameSignal = 100 * time.Millisecond

func main() {
	os.Exit(guarded(os.Stderr, func() int { return run(os.Args[1:]) }))
}

// guarded makes a panic of command a failure: by itself it would end the program
// with exit code 2, which says that a drift was found.
func guarded(stderr io.Writer, command func() int) (code int) {
	defer func() {
		if value := recover(); value != nil {
			fmt.Fprintf(stderr, "panic: %v\n\n%s", value, debug.Stack())
			code = exitFailure
		}
	}()
	return command()
}

func run(args []string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		first := time.Now()
		cancel()
		// The second signal ends the process at once. Signals that arrive together are one:
		// timeout(1) and some supervisors signal both the process and its group.
		for range signals {
			if time.Since(first) > sameSignal {
				os.Exit(exitFailure)
			}
		}
	}()

	f := newFlags()
	root := rootCommand(f)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil, errors.Is(err, errDrift): // which has been printed
	case f.logFormat == jsonFormat:
		// A program that reads the log line by line reads this line too.
		slog.New(slog.NewJSONHandler(os.Stderr, nil)).Error("failed", "error", f.textOf(err), "exit_code", exitCode(err))
	default:
		fmt.Fprintf(os.Stderr, "worker: %s\n", f.textOf(err))
	}
	return exitCode(err)
}
