/* A sink and its cursor: internal/sink, sql/queries/sinks.sql.

   How alerts come to be recorded is in the other models. Here they are, one after the
   other. */

#ifndef ALERTS
#define ALERTS 3
#endif
#ifndef REFUSALS
#define REFUSALS 1 /* dead letters */
#endif

typedef Worker {
	byte pc;
	byte term;
	byte lock;
	bool session;

	bool confirmed; /* the term, not long ago */
	byte cursor;    /* all up to here is done */
	byte saved;     /* and so it is stored */
	byte last       /* of the alerts that it has read */
};

#include "leading.pml"

#define BEGIN   LEADS
#define DELIVER 4
#define SENT    5 /* a mutation's alone */

/* Our tables. */
byte seq;    /* last_seq: of an alert whose row is there */
byte cursor;

/* What the properties need. */
byte settled; /* all up to here was acknowledged, or is a dead letter */
byte refusals;

inline forget(who) {
	w[who].confirmed = false; w[who].cursor = 0; w[who].saved = 0; w[who].last = 0
}

inline leave(who) {
	forget(who);
	end_session(who);
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
	w[who].pc = BEGIN
}

inline settle(who) {
	HOLDS(w[who].cursor + 1 <= settled + 1, "no alert is passed over");
	if
	:: w[who].cursor + 1 > settled -> settled = w[who].cursor + 1
	:: else -> REACHED("a sink gets an event once more")
	fi
}

proctype worker(byte me) {
END	do
#include "election.pml"

	/* delivery.start: ReadSinkCursor */
	:: d_step { AT(BEGIN) ->
		w[me].cursor = cursor;
		w[me].saved = cursor;
		w[me].last = cursor;
		w[me].pc = DELIVER
	}
	/* delivery.fill: the counter, and then the rows up to it */
	:: d_step { AT(DELIVER) && w[me].last < seq -> w[me].last = seq }
	/* delivery.confirm: Term.Confirm, which holds for a second */
	:: d_step { AT(DELIVER) && !w[me].confirmed && w[me].cursor < w[me].last ->
		if
		:: w[me].term == term -> w[me].confirmed = true
		:: else ->
			REACHED("a former leader goes on and sends nothing");
			leave(me)
		fi
	}
	/* delivery.deliver: the sink acknowledges it */
	:: d_step { AT(DELIVER) && w[me].confirmed && w[me].cursor < w[me].last ->
#ifdef MUTATE_CURSOR_FIRST
		w[me].pc = SENT
#else
		REACHED("a sink acknowledges an alert");
		if
		:: w[me].term != term -> REACHED("a former leader delivers once more")
		:: else
		fi;
		settle(me);
		w[me].cursor++
#endif
	}
#ifdef MUTATE_CURSOR_FIRST
	:: d_step { AT(SENT) && w[me].cursor == w[me].saved ->
		w[me].saved++;
		cursor = (w[me].saved > cursor -> w[me].saved : cursor);
		HOLDS(cursor <= settled, "no cursor ahead of what was acknowledged")
	}
	:: d_step { AT(SENT) && w[me].cursor < w[me].saved ->
		settle(me);
		w[me].cursor++;
		w[me].pc = DELIVER
	}
#endif
	/* delivery.deliver: the acknowledgement is lost, and the event is sent again */
	:: d_step { AT(DELIVER) && w[me].confirmed && w[me].cursor < w[me].last && refusals < REFUSALS ->
		refusals++;
		settle(me)
	}
	/* deadLetters.bury: BuryEvent, and the cursor goes on */
	:: d_step { AT(DELIVER) && w[me].confirmed && w[me].cursor < w[me].last && refusals < REFUSALS ->
		refusals++;
		if
		:: cursor == w[me].saved ->
			REACHED("an event becomes a dead letter");
			settle(me);
			w[me].cursor++
		:: else ->
			REACHED("no dead letter where the cursor was moved meanwhile");
			forget(me);
			w[me].pc = BEGIN
		fi
	}
	/* delivery.save: MoveSinkCursor */
	:: d_step { AT(DELIVER) && w[me].cursor > w[me].saved ->
		if
#ifdef MUTATE_MOVED_CURSOR
		:: true ->
#else
		:: cursor == w[me].saved ->
#endif
			HOLDS(w[me].cursor >= cursor, "no cursor goes back");
			cursor = w[me].cursor;
			HOLDS(cursor <= settled, "no cursor ahead of what was acknowledged");
			w[me].saved = w[me].cursor;
			w[me].confirmed = false
#ifndef MUTATE_MOVED_CURSOR
		:: else ->
			REACHED("a cursor that was moved meanwhile is read again");
			forget(me);
			w[me].pc = BEGIN
#endif
		fi
	}
	od
}

proctype recorder() {
END	do
	:: d_step { seq < ALERTS -> seq++ }
	STOP
	od
}

proctype breakage() {
END	do
#include "faults.pml"
	od
}

init {
	atomic {
		run worker(0);
		run worker(1);
		run recorder();
		run breakage()
	}
}

#ifdef LIVE
/* The sink gets every alert. */
ltl delivered { [] <> (cursor == seq) }
#endif
