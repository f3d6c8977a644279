package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"provwatch/internal/remedy"
	"provwatch/internal/schema"
	"provwatch/internal/sink"
)

func sinksCommand(f *flags) *cobra.Command {
	command := &cobra.Command{Use: "sinks", Short: "Show the progress of sinks, and retry dead letters"}
	command.AddCommand(
		&cobra.Command{
			Use:   "list",
			Short: "Show each sink's progress, and its dead letters",
			Args:  noArguments,
			RunE:  func(c *cobra.Command, _ []string) error { return f.listSinks(c.Context()) },
		},
		&cobra.Command{
			Use:   "retry [SINK] --all|SEQ...",
			Short: "Request that the leader retries dead letters of a sink",
			Args:  cobra.ArbitraryArgs,

			ValidArgsFunction: completeSink,
			RunE:              func(c *cobra.Command, args []string) error { return f.retrySinks(c.Context(), args) },
		},
	)
	return command
}

func (f *flags) listSinks(ctx context.Context) error {
	pool, _, err := f.open(ctx, f.logger())
	if err != nil {
		return err
	}
	defer pool.Close()
	var state sink.State
	err = reading(ctx, pool, func(ctx context.Context) (err error) {
		state, err = sink.Inspect(ctx, pool)
		return schema.Explain(ctx, pool, schema.SinkRetries, err)
	})
	if err != nil {
		return err
	}
	return f.printer().Sinks(state)
}

func (f *flags) retrySinks(ctx context.Context, args []string) error {
	logger := f.logger()
	name, seqs, err := f.deadLetters(args)
	if err != nil {
		return err
	}
	pool, _, err := f.open(ctx, logger)
	if err != nil {
		return err
	}
	defer pool.Close()
	defer warnOfWaits(ctx, pool, logger)()
	asked, err := sink.Retry(ctx, pool, name, f.stream, f.all, seqs)
	if err != nil {
		return schema.Explain(ctx, pool, schema.SinkRetries, err)
	}
	if asked == 0 && name != "" {
		state, err := sink.Inspect(ctx, pool)
		if err != nil {
			return schema.Explain(ctx, pool, schema.SinkRetries, err)
		}
		if err := state.Knows(name); err != nil {
			return err
		}
		return remedy.Problem("sink "+name+" has no such dead letter; see ", remedy.Run("sinks list"))
	}
	return f.printer().SinkRetries(asked)
}

// deadLetters returns the sink and the seqs of dead letters in the arguments of "sinks
// retry". Without a sink, --all is of all sinks.
func (f *flags) deadLetters(args []string) (name string, seqs []int64, err error) {
	for i, arg := range args {
		seq, err := strconv.ParseInt(arg, 10, 64)
		switch {
		case err != nil && i == 0:
			name = arg
		case err != nil || seq < 1:
			return "", nil, &usageError{remedy.Problem(fmt.Sprintf("argument %d is not a seq; see ", i+1), remedy.Run("sinks list"))}
		default:
			seqs = append(seqs, seq)
		}
	}
	if f.all == (len(seqs) > 0) || name == "" && !f.all {
		return "", nil, &usageError{errors.New("name the sink and the SEQ of its dead letters, or give --all")}
	}
	return name, seqs, nil
}
