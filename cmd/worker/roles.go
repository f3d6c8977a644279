package main

import (
	"github.com/spf13/cobra"

	sqlfiles "provwatch/sql"
)

func rolesCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "roles",
		Short: "Print the SQL that makes the group roles and grants them what they need",
		Long: "Print the SQL that makes the group roles and grants them what they need (docs/privileges.md).\n\n" +
			"Run it after \"worker migrate\" and after each upgrade, as a superuser, or as the owner of the provider\n" +
			"tables with CREATEROLE. It connects to nothing by itself:\n\n" +
			"  worker roles | psql postgres://admin@db.example/gateway\n\n" +
			"What it prints is for psql, which stops at the first error. For another client, take the JSON's sql.",
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			return f.printer().SQL(sqlfiles.Roles)
		},
	}
}
