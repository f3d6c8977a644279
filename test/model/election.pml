/* Options of a worker's loop: internal/leader. */

	/* stand_by: the session gets the lock of the current term. Which worker begins the
	   first one makes no difference. */
	:: d_step { AT(STANDBY) && FREE(term) && (term > 0 || me == 0) ->
		w[me].term = term;
		w[me].lock = term + 1;
		w[me].session = true;
		w[me].pc = ENDED
	}
	/* Turns in which the sign of life stays the same. */
	:: d_step { AT(STANDBY) && !FREE(term) && SILENT ->
		SEE_SILENCE;
		w[me].term = term;
		w[me].session = true;
		w[me].pc = OVERDUE
	}
	/* BeginTerm, after waiting for the lock. */
	:: d_step { AT(ENDED) ->
		if
		:: w[me].term == term ->
			HOLDS(!(LEADING(1 - me) && w[1 - me].term == term && w[1 - me].session), "the session of the former leader has ended");
			begin_term(me)
		:: else ->
			REACHED("a standby finds that another has begun the next term");
			leave(me)
		fi
	}
	/* BeginTerm, though the lock is held. */
	:: d_step { AT(OVERDUE) ->
		if
		:: w[me].term == term ->
			REACHED("a standby takes over from a silent leader");
			begin_term(me)
		:: else -> leave(me)
		fi
	}
	/* A sign of life shows a later term, or the listening session is lost. */
	:: d_step { LEADING(me) && RUNS(me) && (!w[me].session || w[me].term != term) ->
		REACHED("a leader notices that it no longer leads");
		leave(me)
	}
