/* Options of the faults' loop. */

	/* kill -9, or a crash: the server ends the sessions of the worker. */
	:: d_step { kills < KILLS && w[0].pc > STANDBY -> kills++; leave(0); THAW(0) }
	:: d_step { kills < KILLS && w[1].pc > STANDBY -> kills++; leave(1); THAW(1) }
	/* The listening session ends. The rest of the worker goes on until it notices. */
	:: d_step { cuts < CUTS && LEADING(0) && w[0].session -> cuts++; end_session(0) }
	:: d_step { cuts < CUTS && LEADING(1) && w[1].session -> cuts++; end_session(1) }
#ifdef LIVE
	:: d_step { freezes < FREEZES && w[0].pc > STANDBY -> freezes++; frozen[0] = true }
	:: d_step { freezes < FREEZES && w[1].pc > STANDBY -> freezes++; frozen[1] = true }
#ifdef THAWS
	:: d_step { frozen[0] -> THAW(0) }
	:: d_step { frozen[1] -> THAW(1) }
#endif
#endif
	STOP
