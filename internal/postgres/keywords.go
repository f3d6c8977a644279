package postgres

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// keywords are what a connection string can say, beside settings of the server and
// [notOfPgx]: the parameters of libpq that pgx knows by the names that libpq has for
// them, and pgx's own of its pool and its cache of statements.
var keywords = set(`
	host port dbname user password passfile connect_timeout service servicefile target_session_attrs
	sslmode sslkey sslcert sslcertmode sslrootcert sslnegotiation sslpassword sslsni
	min_protocol_version max_protocol_version channel_binding require_auth krbspn krbsrvname options
	pool_max_conns pool_min_conns pool_min_idle_conns pool_max_conn_lifetime pool_max_conn_idle_time
	pool_health_check_period pool_max_conn_lifetime_jitter pool_ping_timeout
	statement_cache_capacity description_cache_capacity default_query_exec_mode`)

// serverSettings are the settings of the server that a client may set when it
// connects, of PostgreSQL 14 to 18, in lower case, in which the server compares them
// too. Those of extensions, whose names have a dot, can be set by the keyword options.
var serverSettings = set(`
	allow_in_place_tablespaces allow_system_table_mods application_name array_nulls backend_flush_after
	backslash_quote backtrace_functions bytea_output check_function_bodies client_connection_check_interval
	client_encoding client_min_messages commit_delay commit_siblings compute_query_id constraint_exclusion
	cpu_index_tuple_cost cpu_operator_cost cpu_tuple_cost createrole_self_grant cursor_tuple_fraction datestyle
	deadlock_timeout debug_discard_caches debug_logical_replication_streaming debug_parallel_query
	debug_pretty_print debug_print_parse debug_print_plan debug_print_rewritten default_statistics_target
	default_table_access_method default_tablespace default_text_search_config default_toast_compression
	default_transaction_deferrable default_transaction_isolation default_transaction_read_only dynamic_library_path
	effective_cache_size effective_io_concurrency enable_async_append enable_bitmapscan enable_distinct_reordering
	enable_gathermerge enable_group_by_reordering enable_hashagg enable_hashjoin enable_incremental_sort
	enable_indexonlyscan enable_indexscan enable_material enable_memoize enable_mergejoin enable_nestloop
	enable_parallel_append enable_parallel_hash enable_partition_pruning enable_partitionwise_aggregate
	enable_partitionwise_join enable_presorted_aggregate enable_self_join_elimination enable_seqscan enable_sort
	enable_tidscan escape_string_warning event_triggers exit_on_error extension_control_path extra_float_digits
	file_copy_method force_parallel_mode from_collapse_limit geqo geqo_effort geqo_generations geqo_pool_size
	geqo_seed geqo_selection_bias geqo_threshold gin_fuzzy_search_limit gin_pending_list_limit hash_mem_multiplier
	icu_validation_level idle_in_transaction_session_timeout idle_session_timeout ignore_checksum_failure
	ignore_system_indexes intervalstyle io_combine_limit jit jit_above_cost jit_debugging_support jit_dump_bitcode
	jit_expressions jit_inline_above_cost jit_optimize_above_cost jit_profiling_support jit_tuple_deforming
	join_collapse_limit lc_messages lc_monetary lc_numeric lc_time lo_compat_privileges local_preload_libraries
	lock_timeout log_connections log_disconnections log_duration log_error_verbosity log_executor_stats
	log_lock_failures log_lock_waits log_min_duration_sample log_min_duration_statement log_min_error_statement
	log_min_messages md5_password_warnings log_parameter_max_length log_parameter_max_length_on_error log_parser_stats log_planner_stats
	log_replication_commands log_statement log_statement_sample_rate log_statement_stats log_temp_files
	log_transaction_sample_rate logical_decoding_work_mem maintenance_io_concurrency maintenance_work_mem
	max_parallel_maintenance_workers max_parallel_workers max_parallel_workers_per_gather max_stack_depth
	min_parallel_index_scan_size min_parallel_table_scan_size parallel_leader_participation parallel_setup_cost
	parallel_tuple_cost password_encryption plan_cache_mode post_auth_delay quote_all_identifiers random_page_cost
	recursive_worktable_factor restrict_nonsystem_relation_kind role row_security scram_iterations search_path
	seq_page_cost session_preload_libraries session_replication_role standard_conforming_strings statement_timeout
	stats_fetch_consistency synchronize_seqscans synchronous_commit tcp_keepalives_count tcp_keepalives_idle
	tcp_keepalives_interval tcp_user_timeout temp_buffers temp_file_limit temp_tablespaces timezone
	timezone_abbreviations trace_notify trace_sort track_activities track_cost_delay_timing track_counts
	track_functions track_io_timing track_wal_io_timing transaction_deferrable transaction_isolation
	transaction_read_only transaction_timeout transform_null_equals update_process_title vacuum_buffer_usage_limit
	vacuum_cost_delay vacuum_cost_limit vacuum_cost_page_dirty vacuum_cost_page_hit vacuum_cost_page_miss
	vacuum_failsafe_age vacuum_freeze_min_age vacuum_freeze_table_age vacuum_max_eager_freeze_failure_rate
	vacuum_multixact_failsafe_age vacuum_multixact_freeze_min_age vacuum_multixact_freeze_table_age vacuum_truncate
	wal_compression wal_consistency_checking wal_init_zero wal_recycle wal_sender_timeout wal_skip_threshold
	work_mem xmlbinary xmloption zero_damaged_pages`)

func set(words string) map[string]bool {
	known := map[string]bool{}
	for _, word := range strings.Fields(words) {
		known[word] = true
	}
	return known
}

// notOfPgx are the keywords that are not handed to pgx, which would send them to the
// server as settings. The keywords that nothing here reads have no meaning for the
// worker. Its connections have no compression and no GSSAPI, and it opens the
// replication connection by itself. All its sessions must be on one server, so hosts
// are tried in the order given.
var notOfPgx = set(`
	hostaddr fallback_application_name keepalives keepalives_idle keepalives_interval keepalives_count tcp_user_timeout
	ssl_min_protocol_version ssl_max_protocol_version sslcompression sslcrl sslcrldir sslkeylogfile requirepeer
	gssencmode gsslib gssdelegation load_balance_hosts replication scram_client_key scram_server_key
	oauth_issuer oauth_client_id oauth_client_secret oauth_scope`)

// choices are the values of keywords that have a choice.
var choices = map[string][]string{
	"sslmode":                  {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"},
	"sslnegotiation":           {"postgres", "direct"},
	"sslcertmode":              {"disable", "allow", "require"},
	"sslsni":                   {"0", "1"},
	"sslcompression":           {"0", "1"},
	"ssl_min_protocol_version": {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"},
	"ssl_max_protocol_version": {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"},
	"channel_binding":          {"disable", "prefer", "require"},
	"target_session_attrs":     {"any", "read-write", "read-only", "primary", "standby", "prefer-standby"},
	"load_balance_hosts":       {"disable", "random"},
	"gssencmode":               {"disable", "prefer", "require"},
	"gssdelegation":            {"0", "1"},
	"keepalives":               {"0", "1"},
	"min_protocol_version":     {"3.0", "3.2", "latest"},
	"max_protocol_version":     {"3.0", "3.2", "latest"},
	// In the others, exec and simple_protocol, parameters have no types, which jsonb needs. With
	// simple_protocol the server also shows keys, in pg_stat_activity.
	"default_query_exec_mode": {"cache_statement", "cache_describe", "describe_exec"},
}

// numbers are the keywords whose value is a whole number, with its unit.
var numbers = map[string]string{
	"connect_timeout": "of seconds", "keepalives_idle": "of seconds", "keepalives_interval": "of seconds", "keepalives_count": "",
	"tcp_user_timeout": "of milliseconds",
}

// unsupported says why a keyword cannot be honoured that promises more than the
// worker keeps. Without a value it is passed over.
var unsupported = map[string]string{
	"sslcrl":              "certificates are not checked for revocation",
	"sslcrldir":           "certificates are not checked for revocation",
	"requirepeer":         "the server's operating system user is not checked",
	"sslkeylogfile":       "the secrets of TLS are never written to a file",
	"scram_client_key":    "a password is needed",
	"scram_server_key":    "a password is needed",
	"oauth_issuer":        "OAuth is not supported",
	"oauth_client_id":     "OAuth is not supported",
	"oauth_client_secret": "OAuth is not supported",
	"oauth_scope":         "OAuth is not supported",
}

// checkValue returns what is wrong with the value of a keyword of libpq, empty
// where nothing is. The value itself is not shown: a password can have ended up there.
func checkValue(name, value string) (reason string) {
	values, chosen := choices[name]
	unit, number := numbers[name]
	switch why := unsupported[name]; {
	case value == "":
		return ""
	case why != "":
		return fmt.Sprintf("has %s, which cannot be honoured (%s): remove it", name, why)
	case name == "gssencmode" && value == "require":
		return "has gssencmode=require, which cannot be honoured: remove it, and encrypt with TLS, by sslmode"
	case strings.HasSuffix(name, "_protocol_version") && strings.HasPrefix(name, "ssl_"):
		value = strings.ToLower(value) // as in libpq
		values = []string{"tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3"}
	}
	if chosen && !slices.Contains(values, value) {
		return fmt.Sprintf("has a value of %s that is not one of %s", name, strings.Join(choices[name], ", "))
	}
	if _, err := strconv.ParseInt(strings.TrimSpace(value), 10, 32); number && err != nil {
		return strings.TrimSpace(fmt.Sprintf("has a value of %s that is not a whole number %s", name, unit))
	}
	return ""
}

// libpqVariables are the PG* variables of keywords that pgx does not read.
var libpqVariables = map[string]string{
	"hostaddr": "PGHOSTADDR", "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION", "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
	"sslcompression": "PGSSLCOMPRESSION", "sslcrl": "PGSSLCRL", "sslcrldir": "PGSSLCRLDIR", "requirepeer": "PGREQUIREPEER",
	"gssencmode": "PGGSSENCMODE", "gsslib": "PGGSSLIB", "gssdelegation": "PGGSSDELEGATION", "load_balance_hosts": "PGLOADBALANCEHOSTS",
}
