/* The WAL source: internal/wal, sql/queries/wal.sql and sql/queries/alerts.sql.

   Transactions change one provider's row by turns: to a drift, and back. Positions in the
   WAL are counted in these transactions. Each option of a worker's loop is a statement or
   a transaction of ours. Between two of them the worker can be killed or frozen, lose its
   sessions, or be told to end. */

#ifndef COMMITS
#define COMMITS 2
#endif
#ifndef LOSSES
#define LOSSES 1 /* of the slot */
#endif
#ifndef RESTARTS
#define RESTARTS 0 /* of the server */
#endif

typedef Worker {
	byte pc;
	byte term;    /* its own, or the one that it would follow */
	byte lock;    /* the term whose lock its listening session holds, plus 1 */
	bool session; /* its listening session is there */

	bool gap;      /* attempt.gap: the next stream needs a new slot */
	bool known;    /* what it has read: there is a position */
	bool marked;   /* and the gap is marked in it */
	bool announce; /* a gap must be announced */

	/* What the transaction of opener.count would see, as of the slot's start. */
	bool current;  /* its term is the current one */
	bool position; /* the position has changed since */
	bool counter;  /* and so has the counter */

	byte stored;   /* what wal_position says, as far as it knows */
	byte applied;  /* handled up to here */
	byte received; /* and received */

	byte check; /* of a full verification */
	bool looked;
	byte marker;
	bool touched
};

#include "leading.pml"

/* Steps of a leader. */
#define CONFIRM LEADS
#define READ    4
#define INSPECT 5
#define MARK    6
#define AGAIN   7 /* confirm once more */
#define DROP    8
#define CREATE  9
#define COUNT   10 /* the transaction in which the new slot counts */
#define START   11
#define COMPARE 12 /* slot and position, once the stream has begun */
#define STREAM  13
#define APART   14 /* a mutation's alone */

/* Steps of a verification. */
#define DUE     1
#define LOOKED  2
#define MARKED  3

#define DRIFTS(n) ((n) % 2) /* the row after n transactions */

/* The server. */
byte commits;   /* in the WAL */
bool slot;
byte confirmed; /* by the slot */
byte stream;    /* whose replication session has the slot, plus 1 */

/* Our tables. */
bool known;    /* there is a row of wal_position */
byte position;
bool gap;
bool mirror;
bool state;    /* drift_state: a drift is recorded */

/* What the properties need. */
byte handled;  /* the last transaction that was recorded, or that a gap covers */
bool promised; /* a slot of a leader counts, or has counted */
bool disturbed; /* the slot was lost, or a former leader has touched it or the position */
byte losses, restarts;
hidden byte c; /* within a step alone */

inline forget(who) {
	w[who].known = false; w[who].marked = false; w[who].announce = false;
	w[who].current = false; w[who].position = false; w[who].counter = false;
	w[who].stored = 0; w[who].applied = 0; w[who].received = 0;
	w[who].check = 0; w[who].looked = false; w[who].marker = 0; w[who].touched = false;
	if
	:: stream == who + 1 -> stream = 0
	:: else
	fi
}

/* The session of the source fails, and the next one begins. */
inline fail(who) {
	forget(who);
	w[who].pc = CONFIRM
}

inline leave(who) {
	forget(who);
	end_session(who);
	w[who].gap = false;
	w[who].term = 0;
	w[who].pc = STANDBY
}

inline begin_term(who) {
	term++;
	w[who].term = term;
#ifdef MUTATE_LOCK_WITHOUT_SESSION
	w[who].lock = 0;
#else
	w[who].lock = term + 1;
#endif
	counter_changes(who);
	w[who].pc = CONFIRM
}

/* An update that a snapshot of another's transaction does not see. */
inline counter_changes(who) {
	if
	:: w[1 - who].pc == COUNT -> w[1 - who].counter = true
	:: else
	fi
}

inline position_changes(who) {
	if
	:: w[1 - who].pc == COUNT -> w[1 - who].position = true
	:: else
	fi
}

/* Verifier.Record of transactions up to the one given, in their order. */
inline record_commits(who, last) {
	c = w[who].applied;
	do
	:: c < last ->
		c++;
		HOLDS(c > handled, "no alert twice");
		HOLDS(c == handled + 1, "none missed, and in commit order");
		handled = c;
		record(who, DRIFTS(c))
	:: else -> break
	od;
	w[who].applied = last;
	c = 0
}

inline record(who, drifts) {
	if
	:: state != drifts ->
		HOLDS(w[who].term == term, "never two that record");
		REACHED("an alert is recorded");
		state = drifts;
		counter_changes(who)
	:: else
	fi
}

/* What a session says that the server may forget. */
#ifdef MUTATE_CONFIRM_FIRST
#define HANDLED w[me].received
#else
#define HANDLED w[me].stored
#endif

/* LockWALPosition and the checks of transact. */
#ifdef MUTATE_NO_TERM
#define MAY_RECORD (known && position == w[me].stored)
#else
#define MAY_RECORD (known && position == w[me].stored && w[me].term == term)
#endif

/* The slot has confirmed what is not stored. */
#ifdef MUTATE_SLOT_AHEAD
#define AHEAD false
#else
#define AHEAD (confirmed > w[me].stored)
#endif

/* applier.apply, with the transaction of recorder.record */
inline record_batch(last) {
	if
	:: MAY_RECORD ->
		position = last;
		mirror = DRIFTS(last);
		w[me].stored = last;
		position_changes(me);
		w[me].touched = w[me].check == MARKED;
#ifdef MUTATE_ALERT_APART
		w[me].pc = APART
#else
		record_commits(me, last)
#endif
	:: else ->
		if
		:: w[me].term != term -> REACHED("a former leader goes on and may not record")
		:: else
		fi;
		fail(me)
	fi
}

proctype worker(byte me) {
END	do
#include "election.pml"

	/* Term.Confirm */
	:: d_step { AT(CONFIRM) ->
		if
		:: w[me].term == term -> w[me].pc = READ
		:: else -> leave(me)
		fi
	}
	/* ReadWALPosition */
	:: d_step { AT(READ) ->
		HOLDS(!known || gap || mirror == DRIFTS(position), "the mirror is the row as of the position");
		w[me].known = known;
		w[me].stored = position;
		w[me].marked = gap;
		w[me].pc = INSPECT
	}
	/* InspectSlot, and what follows from it */
	:: d_step { AT(INSPECT) ->
		if
		:: w[me].gap || !w[me].known || w[me].marked || !slot || AHEAD ->
			w[me].announce = w[me].gap || w[me].known;
			w[me].stored = 0;
			w[me].pc = MARK
		:: else ->
			w[me].applied = w[me].stored;
			w[me].pc = START
		fi;
		w[me].known = false;
		w[me].marked = false
	}
	/* MarkGap */
	:: d_step { AT(MARK) ->
#ifndef MUTATE_GAP_NOT_MARKED
		if
		:: known && !gap && w[me].term == term -> gap = true; position_changes(me)
		:: else
		fi;
#endif
		w[me].pc = AGAIN
	}
	/* Term.Confirm, once more */
	:: d_step { AT(AGAIN) ->
		if
		:: w[me].term == term -> w[me].pc = DROP
		:: else -> leave(me)
		fi
	}
	/* DropSlot, and the end of whoever streams from it */
	:: d_step { AT(DROP) ->
		if
		:: slot && w[me].term != term ->
			REACHED("a former leader drops the slot");
			disturbed = true
		:: else
		fi;
		slot = false; confirmed = 0; stream = 0;
		w[me].pc = CREATE
	}
	/* CREATE_REPLICATION_SLOT, which exports a snapshot */
	:: d_step { AT(CREATE) ->
		if
		:: slot -> fail(me)
		:: else ->
			slot = true;
			confirmed = commits;
			w[me].stored = commits;
			w[me].applied = commits;
			w[me].current = (w[me].term == term);
			w[me].pc = COUNT
		fi
	}
	/* StartWALPosition, the mirror, and the row of the gap: one transaction in that
	   snapshot, which fails when what it updates has changed since. */
	:: d_step { AT(COUNT) ->
		if
		:: !w[me].current || w[me].position || w[me].announce && w[me].counter ->
			REACHED("a new slot does not count");
			fail(me)
		:: else ->
			known = true;
			position = w[me].stored;
			gap = false;
#ifdef MUTATE_MIRROR_AS_OF_NOW
			mirror = DRIFTS(commits);
#else
			mirror = DRIFTS(position);
#endif
			position_changes(me);
			if
			:: w[me].announce ->
				HOLDS(w[me].term == term, "never two that record");
				HOLDS(disturbed, "no gap unless the slot was lost, or a former leader meddled");
				REACHED("a gap is recorded");
				counter_changes(me)
			:: else ->
				HOLDS(!promised, "what is lost is announced")
			fi;
			disturbed = disturbed || w[me].term != term;
			promised = promised || w[me].term == term;
			handled = position;
			w[me].gap = false;
			w[me].announce = false;
			w[me].current = false; w[me].position = false; w[me].counter = false;
			w[me].pc = START
		fi
	}
	/* START_REPLICATION, and the end of whoever had the slot. What is sent begins where
	   the slot says, and what is stored is passed over. */
	:: d_step { AT(START) ->
		if
		:: !slot -> w[me].gap = true; fail(me)
		:: else ->
			stream = me + 1;
			w[me].applied = (confirmed > w[me].stored -> confirmed : w[me].stored);
			w[me].received = w[me].applied;
#ifdef MUTATE_SLOT_NOT_COMPARED
			w[me].check = DUE;
			w[me].pc = STREAM
#else
			w[me].pc = COMPARE
#endif
		fi
	}
	/* InspectSlot, while nobody else can drop the slot */
	:: d_step { AT(COMPARE) ->
		if
		:: stream != me + 1 -> fail(me)
		:: stream == me + 1 && confirmed > w[me].stored ->
			REACHED("a slot that streams is ahead of the position");
			w[me].gap = true;
			fail(me)
		:: else ->
			w[me].check = DUE;
			w[me].pc = STREAM
		fi
	}
	/* Source.receive */
	:: d_step { AT(STREAM) && stream == me + 1 && w[me].received < commits ->
		w[me].received++
	}
	/* Its status, once what it says is stored */
	:: d_step { AT(STREAM) && stream == me + 1 && confirmed < HANDLED -> confirmed = HANDLED }
	/* The stream is ended by another, or the slot is gone. */
	:: d_step { AT(STREAM) && stream != me + 1 -> fail(me) }
	/* applier.apply: a batch of one, or of all that was received */
	:: d_step { AT(STREAM) && w[me].applied < w[me].received && w[me].check != LOOKED -> record_batch(w[me].applied + 1) }
	:: d_step { AT(STREAM) && w[me].applied + 1 < w[me].received && w[me].check != LOOKED -> record_batch(w[me].received) }
#ifdef MUTATE_ALERT_APART
	:: d_step { AT(APART) ->
		record_commits(me, w[me].stored);
		w[me].pc = STREAM
	}
#endif
	/* checker.read */
	:: d_step { AT(STREAM) && w[me].check == DUE ->
		w[me].looked = DRIFTS(commits);
		w[me].check = LOOKED
	}
	/* EmitMarker */
	:: d_step { AT(STREAM) && w[me].check == LOOKED ->
		w[me].marker = commits;
		w[me].check = MARKED
	}
	/* checker.finish */
	:: d_step { AT(STREAM) && w[me].check == MARKED && w[me].applied >= w[me].marker && stream == me + 1 ->
		if
		:: w[me].touched ->
			REACHED("a verification leaves it to the stream");
			w[me].check = 0
		:: !w[me].touched && MAY_RECORD ->
			HOLDS(w[me].applied == handled, "none missed, and in commit order");
			HOLDS(mirror == w[me].looked, "the mirror is the row as of the position");
			if
			:: state != w[me].looked -> REACHED("a verification alerts what a gap covers")
			:: else
			fi;
			record(me, w[me].looked);
			w[me].check = 0
		:: else -> fail(me)
		fi;
		w[me].looked = false; w[me].marker = 0; w[me].touched = false
	}
	od
}

proctype writers() {
END	do
	:: d_step { commits < COMMITS -> commits++ }
	STOP
	od
}

proctype breakage() {
END	do
#include "faults.pml"
	/* A connection of the source fails, or a statement is cancelled. */
	:: d_step { cuts < CUTS && w[0].pc > CONFIRM -> cuts++; fail(0) }
	:: d_step { cuts < CUTS && w[1].pc > CONFIRM -> cuts++; fail(1) }
	/* The slot vanishes. */
	:: d_step { losses < LOSSES && slot ->
		REACHED("the slot vanishes");
		disturbed = true;
		losses++;
		slot = false; confirmed = 0; stream = 0
	}
	/* The server restarts: all sessions end, and a slot may have confirmed less. */
	:: atomic { restarts < RESTARTS ->
		d_step {
			restarts++;
			end_session(0);
			end_session(1);
			if
			:: w[0].pc > CONFIRM -> fail(0)
			:: w[0].pc == ENDED || w[0].pc == OVERDUE -> leave(0)
			:: else
			fi;
			if
			:: w[1].pc > CONFIRM -> fail(1)
			:: w[1].pc == ENDED || w[1].pc == OVERDUE -> leave(1)
			:: else
			fi
		};
		if
		:: true
		:: confirmed > 0 -> confirmed--
		fi
	}
	od
}

init {
	atomic {
		run worker(0);
		run worker(1);
		run writers();
		run breakage()
	}
}

#ifdef LIVE
/* Once the row no longer changes, what is recorded is what it is. */
ltl alerted { [] <> (state == DRIFTS(commits)) }
#endif
