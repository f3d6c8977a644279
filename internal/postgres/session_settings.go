package postgres

// sessionSettings let the server end the session of a worker that froze inside a
// transaction, and with it the locks that others wait for. A session that waits
// stays: the worker bounds its statements itself, and a listener is quiet for as
// long as nothing happens.
//
// Where policies would hide rows from the role, a statement fails: a hidden row
// must not count as missing.
//
// A commit that is reported must be durable, since alerts are confirmed by it.
//
// A session that waited for one of our locks must see what its holder committed,
// also where the database or the role has another level than the usual one.
const sessionSettings = `SET default_transaction_isolation = 'read committed'; SET row_security = off; ` +

	keepAliveSettings +
	`SET idle_in_transaction_session_timeout = '60s'; SET statement_timeout = 0; SET lock_timeout = 0; SET idle_session_timeout = 0; ` +
	`SELECT set_config('transaction_timeout', '0', false) WHERE current_setting('transaction_timeout', true) IS NOT NULL; ` + // of PostgreSQL 17
	`SELECT set_config('synchronous_commit', 'local', false) WHERE current_setting('synchronous_commit') = 'off'`

// keepAliveSettings let the server end, within half a minute, the session of a client
// that vanished without closing it, whether or not the server has something to send. On a
// Unix socket they have no meaning.
const keepAliveSettings = `SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; SET tcp_user_timeout = '30s'; `

// statusSettings bound what a look at the status costs the server.
const statusSettings = `SET statement_timeout = '3s'; SET lock_timeout = '1s'; SET jit = off; SET default_transaction_read_only = on`

// walSenderSettings make the server end a replication session whose client answers
// nothing: a leader that froze must not keep the slot for longer than it takes to replace
// it. Such a session is in a transaction while a mirror is made by the snapshot of a new
// slot.
const walSenderSettings = `SET wal_sender_timeout = '20s'; SET idle_in_transaction_session_timeout = 0`
