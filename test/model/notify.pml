/* The source notifications: internal/verify, sql/queries/alerts.sql.

   Transactions change one provider's row by turns: to a drift, and back. A look is one
   query, and what it shows is recorded by one statement. The worker can give the
   statement up, for want of an answer, while the server still carries it out. */

#ifndef COMMITS
#define COMMITS 2
#endif
#ifndef GIVEN_UP
#define GIVEN_UP 1
#endif

typedef Worker {
	byte pc;
	byte term;
	byte lock;
	bool session;

	bool due; /* there is something to be verified */
	/* What it has looked at. */
	bool looked;
	byte at;
	byte generation;
	byte seq
};

#include "leading.pml"

#define LOOK  LEADS
#define WRITE 4

#define DRIFTS(n) ((n) % 2) /* the row after n transactions */

byte commits;

/* Our tables. */
byte generation;
byte seq;   /* last_seq */
bool state; /* drift_state: a drift is recorded */

/* A statement that was given up, and that the server can still carry out. */
bool late;
byte late_term, late_generation, late_seq, late_at;
bool late_looked;

/* What the properties need. */
byte alerts;   /* rows */
byte recorded; /* as of which transaction */
byte given_up;

inline forget(who) {
	w[who].looked = false; w[who].at = 0; w[who].generation = 0; w[who].seq = 0
}

inline leave(who) {
	forget(who);
	end_session(who);
	w[who].due = false;
	w[who].term = 0;
	w[who].pc = STANDBY
}

inline begin_term(who) {
	term++;
	generation++;
	w[who].term = term;
#ifdef MUTATE_LOCK_WITHOUT_SESSION
	w[who].lock = 0;
#else
	w[who].lock = term + 1;
#endif
	w[who].due = true;
	w[who].pc = LOOK
}

#ifdef MUTATE_NO_GENERATION
#define SAME_GENERATION(g) true
#else
#define SAME_GENERATION(g) ((g) == generation)
#endif
#ifdef MUTATE_NO_TERM
#define SAME_TERM(t) true
#else
#define SAME_TERM(t) ((t) == term)
#endif

inline record(in_term, last, drifts, as_of) {
	HOLDS(in_term == term, "never two that record");
	HOLDS(drifts != state, "no alert twice");
	HOLDS(as_of >= recorded, "in commit order");
	HOLDS(last == alerts, "seq without a gap, each once");
	REACHED("an alert is recorded");
	alerts++;
	seq++;
	generation++;
	state = drifts;
	recorded = as_of
}

proctype worker(byte me) {
END	do
#include "election.pml"

	/* verification.read */
	:: d_step { AT(LOOK) && w[me].due ->
		w[me].due = false;
		if
		:: DRIFTS(commits) != state ->
			w[me].looked = DRIFTS(commits);
			w[me].at = commits;
			w[me].generation = generation;
			w[me].seq = seq;
			w[me].pc = WRITE
		:: else
		fi
	}
	/* Record */
	:: d_step { AT(WRITE) ->
		if
		:: SAME_GENERATION(w[me].generation) && SAME_TERM(w[me].term) ->
			record(w[me].term, w[me].seq, w[me].looked, w[me].at)
		:: else ->
			if
			:: w[me].term != term -> REACHED("a former leader goes on and may not record")
			:: else -> REACHED("a look is older than what is recorded")
			fi;
			w[me].due = true
		fi;
		forget(me);
		w[me].pc = LOOK;
#ifdef LIVE
		/* The elector has its turns too. */
		if
		:: w[me].term != term -> leave(me)
		:: else
		fi
#endif
	}
	/* Record, without an answer in time */
	:: d_step { AT(WRITE) && given_up < GIVEN_UP ->
		given_up++;
		late = true;
		late_term = w[me].term; late_generation = w[me].generation; late_seq = w[me].seq;
		late_at = w[me].at; late_looked = w[me].looked;
		w[me].due = true;
		forget(me);
		w[me].pc = LOOK
	}
#ifdef LIVE
	/* A resync. One that finds nothing new makes no difference. */
	:: d_step { AT(LOOK) && !w[me].due && state != DRIFTS(commits) -> w[me].due = true }
#endif
	od
}

proctype writers() {
END	do
	/* Its trigger notifies. */
	:: d_step { commits < COMMITS ->
		commits++;
		w[0].due = w[0].due || LEADING(0);
		w[1].due = w[1].due || LEADING(1)
	}
	STOP
	od
}

proctype breakage() {
END	do
#include "faults.pml"
	:: d_step { late ->
		if
		:: SAME_GENERATION(late_generation) && SAME_TERM(late_term) ->
			REACHED("a statement that was given up is carried out");
			record(late_term, late_seq, late_looked, late_at)
		:: else -> REACHED("a statement that was given up does nothing")
		fi;
		late = false;
		late_term = 0; late_generation = 0; late_seq = 0; late_at = 0; late_looked = false
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
