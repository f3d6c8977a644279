package main

import (
	"github.com/spf13/cobra"

	sqlfiles "provwatch/sql"
)

func rolesCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "roles",
		Short: "Print the SQL that creates the group roles and grants their privileges",
		Long: "Print the SQL that creates the group roles and grants their privileges (docs/privileges.md).\n\n" +
			"Run it after \"worker migrate\" and after each upgrade, as a superuser, or as the owner of the provider\n" +
			"tables with CREATEROLE. The command does not connect to a database:\n\n" +
			"  worker roles | psql postgres://admin@db.example/gateway\n\n" +
			"The output is for psql, which stops at the first error. For other clients, use the field sql of -o json.",
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			return f.printer().SQL(sqlfiles.Roles)
		},
	}
}
