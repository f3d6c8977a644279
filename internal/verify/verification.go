package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/drift"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/rollout"
	"provwatch/internal/store"
)

// fullTimeout is [hintedTimeout] of a verification of everything.
const fullTimeout = 2 * time.Minute

// verification is one run over what a request covers, of one goroutine. It compares with
// the environment and the hashes that it began with, and records in the term.
type verification struct {
	v           *Verifier
	environment *environment
	hasher      provider.Hasher
	term        int64
	// newest is the newest generation of environments that it records with; it is
	// [store.AnyEnvironment] where it records nothing.
	newest int64
}

// errReplaced is returned when a reload has replaced the environment of a verification.
var errReplaced = errors.New("the environment was replaced meanwhile")

// errOvertaken is returned when another environment has become the newest since the
// environment of a verification was given its generation.
var errOvertaken = errors.New("another environment has become the newest meanwhile")

// measure does a verification, bounded in time, and measures it.
func (v *Verifier) measure(ctx context.Context, all bool, do func(context.Context, *verification) error) error {
	scope, limit := Hinted, v.answerWithin
	if all {
		scope, limit = Full, fullTimeout
	}
	start := time.Now()
	err := v.current(ctx, limit, do)
	if !rollout.IsOlder(err) { // which is no failure
		v.metrics.Verified(scope, time.Since(start), err)
	}
	return err
}

// current does a verification, again while a reload replaces its environment, or another
// environment becomes the newest. Each round may take the limit, and each of its statements all
// of that time.
func (v *Verifier) current(ctx context.Context, limit time.Duration, do func(context.Context, *verification) error) error {
	for overtaken := 0; ; {
		switch err := v.round(ctx, limit, do); {
		case errors.Is(err, errReplaced):
		case errors.Is(err, errOvertaken) && overtaken < maxRaces:
			overtaken++
		default:
			return err
		}
	}
}

func (v *Verifier) round(ctx context.Context, limit time.Duration, do func(context.Context, *verification) error) error {
	ctx, cancel := context.WithTimeout(postgres.Bounded(ctx, limit), limit)
	defer cancel()
	run, err := v.begin(ctx)
	if err != nil {
		return fmt.Errorf("verify providers: %w", err)
	}
	return do(ctx, run)
}

// begin begins a verification with the present environment, hashes and term.
func (v *Verifier) begin(ctx context.Context) (*verification, error) {
	hasher, err := v.knownHasher(ctx)
	if err != nil {
		return nil, err
	}
	return &verification{
		v: v, environment: v.environment.Load(), hasher: hasher, term: v.sequence.currentTerm(), newest: store.AnyEnvironment,
	}, nil
}

// take has a verification that records take a generation for its environment. It fails with a
// [*rollout.OlderError] where the environment is older than that of another worker.
func (r *verification) take(ctx context.Context) (err error) {
	r.newest, err = r.v.takeGeneration(ctx, r.v.pool, r.environment, r.hasher)
	return err
}

// unlessOvertaken returns [errOvertaken] where rows were read with another newest generation
// than the verification has taken. The next round then takes one again.
func (r *verification) unlessOvertaken(newest int64) error {
	if r.newest == store.AnyEnvironment || newest == store.AnyEnvironment || newest == r.newest {
		return nil
	}
	r.environment.newest.Store(nil)
	return errOvertaken
}

// suspects returns what reading the request's hints has shown, or what to read.
func (r *verification) suspects(ctx context.Context, request Request) (hinted reading, found suspects, err error) {
	hinted, usable, err := r.readHinted(ctx, request)
	if usable || err != nil {
		return hinted, suspects{}, err
	}
	rows, credentials := r.v.reader.unmanaged.Looks(), r.v.reader.credentials.Compares()
	if credentials && !rows {
		return reading{}, suspects{names: r.environment.names}, nil // a scan reads no keys
	}
	if found, err = r.scan(ctx, rows); err != nil {
		return reading{}, suspects{}, err
	}
	if credentials {
		found.names = r.environment.names
	} else {
		r.v.conditions.inSync(ctx, r.environment, found.names)
	}
	return reading{}, found, nil
}

// readHinted reads the providers of the request's hints. It reports false when the request
// has no usable ones.
func (r *verification) readHinted(ctx context.Context, request Request) (hinted reading, usable bool, err error) {
	if request.All {
		return reading{}, false, nil
	}
	hinted, err = r.read(ctx, nil, request.ProviderIDs, r.v.reader.credentials)
	if err != nil {
		return reading{}, false, err
	}
	// A hint that belongs to no row and to no provider observed before is no usable hint,
	// but another program's, or of a row that came and went.
	if slices.ContainsFunc(request.ProviderIDs, func(id uuid.UUID) bool { return !hinted.ids[id] }) {
		return reading{}, false, nil
	}
	return hinted, true, nil
}

// readSuspects reads suspects. It passes over names that the environment does not have.
func (r *verification) readSuspects(ctx context.Context, some suspects) (reading, error) {
	return r.read(ctx, some.names, some.rows, r.v.reader.credentials)
}

// read reads the providers named, and the providers and rows of the ids. The observations are
// what the mode judges.
func (r *verification) read(ctx context.Context, names []string, ids []uuid.UUID, mode drift.CredentialMode) (reading, error) {
	read, err := r.v.reader.read(ctx, r.v.pool, r.environment, r.hasher, names, ids, mode.Compares())
	if err == nil {
		err = r.unlessOvertaken(read.newest)
	}
	if err != nil {
		return reading{}, err
	}
	for i := range read.comparisons {
		o := &read.comparisons[i].observation
		*o = r.v.conditions.observed(ctx, *o, mode)
	}
	return read, nil
}

// scan reads the rows of all providers, and with rows set the unmanaged ones, and returns what
// to read: what is not seen to be as it is recorded. What is recorded of the rest is known
// from the last time, unless another worker has recorded something since.
//
// With rows set, the first scan of a database takes the unmanaged rows for known ones.
func (r *verification) scan(ctx context.Context, rows bool) (suspects, error) {
	for range maxRaces {
		scan, err := r.v.reader.scan(ctx, r.v.pool, r.environment, rows)
		if err == nil {
			err = r.unlessOvertaken(scan.newest)
		}
		if err != nil {
			return suspects{}, err
		}
		found, known := r.v.baseline.suspects(scan, r.hasher)
		if !known {
			last, err := readRecorded(ctx, r.v.pool, r.environment, r.hasher, rows)
			if err != nil {
				return suspects{}, fmt.Errorf("read what is recorded: %w", err)
			}
			if rows && !last.started {
				if err := r.startUnmanaged(ctx); err != nil {
					return suspects{}, fmt.Errorf("record the unmanaged rows that are there: %w", err)
				}
				continue
			}
			found = scan.suspects(last)
			r.v.baseline.replace(r.environment, r.hasher, last)
		}
		if rows {
			r.v.conditions.rowsScanned(len(scan.unmanaged), found.rows)
		}
		return found, nil
	}
	return suspects{}, errRace
}

// startUnmanaged takes the unmanaged rows that are there for known ones, unless another worker
// leads by now.
func (r *verification) startUnmanaged(ctx context.Context) error {
	epoch, err := r.epoch(ctx)
	if err == nil {
		err = r.unlessReplaced()
	}
	if err != nil {
		return err
	}
	// Where it is refused, the next scan shows the environment that has overtaken this one.
	_, err = store.On(r.v.pool).StartUnmanaged(ctx, r.environment.allNames(), r.term, r.newest, epoch)
	return err
}

// unlessReplaced returns [errReplaced] where a reload has replaced the environment.
func (r *verification) unlessReplaced() error {
	if r.v.environment.Load() != r.environment {
		return errReplaced
	}
	return nil
}

// record records what is new in a reading, and returns of how many providers and rows. When
// another worker has recorded anything since, it reads these again. isChange is that of
// [judgement].
func (r *verification) record(ctx context.Context, read reading, source pubsub.Source, isChange bool) (news int, err error) {
	for range maxRaces {
		if err := r.unlessReplaced(); err != nil {
			return 0, err
		}
		judged := r.judge(ctx, read, source, isChange)
		if len(judged) == 0 {
			return 0, nil
		}
		recorded, err := r.write(ctx, position{generation: read.generation, lastSeq: read.lastSeq}, Recorded{judgements: judged}, source)
		if err != nil {
			return 0, fmt.Errorf("record drift: %w", err)
		}
		if recorded {
			return len(judged), nil
		}
		var again []drift.Subject
		for _, j := range judged {
			again = append(again, j.Observation.Subject())
		}
		if read, err = r.readSuspects(ctx, suspectsOf(again)); err != nil {
			return 0, err
		}
	}
	return 0, errRace
}

// judge returns the judgements of a reading that are news. It takes over the others.
func (r *verification) judge(ctx context.Context, read reading, source pubsub.Source, isChange bool) (news []judgement) {
	add := func(j drift.Judgement) {
		one := judgement{Judgement: j, isChange: isChange}
		switch {
		case r.environment.withholds(j):
		case j.IsNews():
			one.show(source)
			news = append(news, one)
		default:
			r.v.judged(ctx, r.environment, one)
		}
	}
	for _, c := range read.comparisons {
		c.recorded.AlertAfter = r.v.alertAfter
		add(knownFormer(c.recorded.Judge(c.observation), c.formerServes))
	}
	formerly := r.v.formerlyNamed(r.environment)
	for _, c := range read.rows {
		c.recorded.AlertAfter = r.v.alertAfter
		c.recorded.NamedBefore = c.recorded.NamedBefore || formerly.has(c.observation, c.recorded)
		add(c.recorded.Judge(c.observation, r.v.reader.unmanaged))
	}
	return news
}

// epoch returns the epoch of the sequence of alerts.
func (r *verification) epoch(ctx context.Context) (uuid.UUID, error) {
	if epoch := r.v.sequence.currentEpoch(); epoch != uuid.Nil {
		return epoch, nil
	}
	// A verifier that has not taken over.
	epoch, err := store.On(r.v.pool).ReadEpoch(ctx)
	if err != nil {
		return uuid.Nil, fmt.Errorf("read provwatch.alert_counter: %w", err)
	}
	r.v.sequence.goOn(epoch)
	return epoch, nil
}

// write writes what is new in judgements and announces them. It reports false, and has written
// nothing, when the generation of the position is over by now. The epoch and the environment
// are filled in.
func (r *verification) write(ctx context.Context, at position, what Recorded, source pubsub.Source) (_ bool, err error) {
	if at.epoch, err = r.epoch(ctx); err != nil {
		return false, err
	}
	if err := r.unlessReplaced(); err != nil {
		return false, err
	}
	what.environment = r.environment
	recorded, err := record{db: r.v.pool, at: at, term: r.term, newest: r.newest, source: source}.write(ctx, what)
	if err != nil {
		r.v.Unannounced()
		return false, err
	}
	if recorded.generation == 0 {
		return false, nil
	}
	r.v.announce(ctx, recorded)
	return true, nil
}
