package store

// For the tests, which import packages that import this one.
type (
	Text      = text
	Timestamp = timestamp
)

var (
	ErrNUL   = errNUL
	Nullable = nullable
)

func Encode[T any](rows []T) ([]byte, error) { return encode(rows) }

// AlertRow is a row of the query listAlertsSince.
type AlertRow = listAlertsSinceRow

func AlertOf(row AlertRow) StoredAlert { return row.alert() }
