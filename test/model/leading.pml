/* Terms of leadership: internal/leader and sql/queries/leader.sql.

   The other models include this file, and election.pml in the loop of their workers.
   docs/model.md says what each step stands for. */

#define WORKERS 2

Worker w[WORKERS]; /* of a type that each of the others has of its own */

#ifndef KILLS
#define KILLS 1
#endif
#ifndef CUTS
#define CUTS 0 /* sessions that end, of a worker that goes on */
#endif
#ifndef TAKEOVERS
#define TAKEOVERS 1 /* from a leader that is silent */
#endif

/* Says once that the search has come here. scripts/model.sh wants each of these. */
#define REACHED(what) c_code { static int said; if (!said) { said = 1; printf("reached: " what "\n"); } }

/* A property. */
#define HOLDS(expression, name) \
	if \
	:: expression \
	:: else -> \
		c_code { printf("violated: " name "\n"); }; \
		assert(false) \
	fi

/* Steps of a worker. Those of a leader follow. */
#define STANDBY 0
#define ENDED   1 /* stand_by has said that the leader has ended */
#define OVERDUE 2 /* the leader was silent for too long */
#define LEADS   3 /* the first step of a leader */

/* The row of provwatch.alert_counter. */
byte term;

byte kills, cuts;
#ifdef LIVE
/* A worker freezes, and with THAWS may go on later. A standby takes over from it alone. */
#define FREEZES 1
bool frozen[WORKERS];
byte freezes;
#define RUNS(me) (!frozen[me])
#define SILENT   (w[0].lock == term + 1 && frozen[0] || w[1].lock == term + 1 && frozen[1])
#define SEE_SILENCE skip
#define STOP :: break /* rather than do all that it may, as fairness would have it */
#define THAW(who) frozen[who] = false
#else
/* A frozen worker is one that has no turn. Any leader can be silent. */
byte takeovers;
#define RUNS(me) true
#define SILENT   (takeovers < TAKEOVERS)
#define SEE_SILENCE takeovers++
#define STOP
#define THAW(who) skip
#endif

/* The lock of a term is held by a listening session. */
#define FREE(t) (w[0].lock != (t) + 1 && w[1].lock != (t) + 1)

/* What waits for ever at the head of its loop is at its end. */
#define END end:

#define AT(step) (w[me].pc == (step) && RUNS(me))
#define LEADING(who) (w[who].pc >= LEADS)

/* What a listening session loses when it ends. */
inline end_session(who) {
	w[who].session = false;
#ifndef MUTATE_LOCK_STAYS
	w[who].lock = 0
#endif
}
