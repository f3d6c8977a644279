package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"provwatch/internal/schema"
	"provwatch/internal/sink"
)

func sinksCommand(f *flags) *cobra.Command {
	command := &cobra.Command{Use: "sinks", Short: "See how far sinks are, and have them try again what they did not take"}
	list := &cobra.Command{
		Use:   "list",
		Short: "Show each sink's progress, and its dead letters",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, logger := c.Context(), f.logger()
			pool, _, err := f.open(ctx, logger)
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
		},
	}
	var all bool
	var stream string
	retry := &cobra.Command{
		Use:   "retry [SINK] --all|SEQ...",
		Short: "Let the leader send dead letters of a sink once more",
		Args:  cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			ctx, logger := c.Context(), f.logger()
			name := ""
			var seqs []int64
			for i, arg := range args {
				seq, err := strconv.ParseInt(arg, 10, 64)
				switch {
				case err != nil && i == 0:
					name = arg
				case err != nil || seq < 1:
					return &usageError{fmt.Errorf("argument %d is no seq; see \"worker sinks list%s\"", i+1, f.commandFlags())}
				default:
					seqs = append(seqs, seq)
				}
			}
			if all == (len(seqs) > 0) || name == "" && !all {
				return &usageError{errors.New("name the sink and the SEQ of its dead letters, or give --all")}
			}
			if !slices.Contains([]string{"", string(sink.Drift), string(sink.Audit)}, stream) {
				return &usageError{errors.New("--stream must be one of drift, audit")}
			}
			pool, _, err := f.open(ctx, logger)
			if err != nil {
				return err
			}
			defer pool.Close()
			defer warnOfWaits(ctx, pool, logger)()
			asked, err := sink.Retry(ctx, pool, name, sink.Stream(stream), all, seqs)
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
				return fmt.Errorf("sink %s has no such dead letter; see \"worker sinks list%s\"", name, f.commandFlags())
			}
			return f.printer().SinkRetries(asked)
		},
	}
	retry.Flags().BoolVar(&all, "all", false, "all dead letters, of the sink or without one of all sinks")
	retry.Flags().StringVar(&stream, "stream", "", "only those of one stream: drift, audit (default both)")
	command.AddCommand(list, retry)
	return command
}
