package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"provwatch/internal/regularfile"
)

// Source is where a connection string comes from. It is read again for each connection.
type Source struct {
	// Name is that of the variable, or of the field of a file, that holds Text.
	Name, Text string
	// Path, in place of both, is that of a file that holds the connection string.
	// Space around it does not count.
	Path string
	// Logger gets what becomes of the source after the first reading; nil for nobody.
	Logger *slog.Logger
}

// name is what errors call the source.
func (s Source) name() string {
	if s.Path != "" {
		return s.Path
	}
	return s.Name
}

func (s Source) read() (string, error) {
	if s.Path == "" {
		return s.Text, nil
	}
	content, err := regularfile.ReadGuarded(s.Path, regularfile.Limit)
	if err != nil {
		return "", fmt.Errorf("read the database's URL: %w", err)
	}
	text := strings.TrimSpace(string(content))
	clear(content)
	if text == "" {
		return "", fmt.Errorf("%s is empty; it must hold the connection string", s.Path)
	}
	return text, nil
}

// passwordFile returns which file the password is in, empty where that is none that is
// read again.
func (s Source) passwordFile(given, merged parsed, password string) string {
	switch {
	case s.Path != "" && given["password"] != "":
		return s.Path
	case s.Path != "":
		return s.Path + " or the password file (PGPASSFILE)"
	case given["password"] != "":
		return ""
	case merged["password"] != "":
		return "the service file (PGSERVICEFILE)"
	case os.Getenv("PGPASSWORD") != "" || password == "":
		return ""
	default:
		return "the password file (PGPASSFILE)"
	}
}

// credentials are the user and the password of a configuration's connections. They
// are read again for each, so that a new password needs no restart: from the file of
// the connection string, the service file and the password file.
type credentials struct {
	source Source
	first  login
	// place is the server and the database, and settings all else that the source said
	// at first.
	place    string
	settings parsed
	// file is where the password is, empty where that is not read again.
	file string

	mu   sync.Mutex // guards what follows
	used login      // what was last read and can be used
	said string     // what was last logged, empty while all is well
}

func newCredentials(source Source, read reading) *credentials {
	c := &credentials{source: source, place: read.place(), settings: read.withoutLogin(), first: read.login()}
	c.file = source.passwordFile(read.given, read.merged, c.first.password)
	c.used = c.first
	return c
}

// give makes a connection log in as the source says now. It is called between dialling
// and the first message. A caller that has set another user keeps it.
func (c *credentials) give(ctx context.Context, config *pgconn.Config, conn net.Conn) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if given := (login{config.User, config.Password}); given == c.first || given == c.used {
		c.readAgain(ctx)
		config.User, config.Password = c.used.user, c.used.password
	}
	return conn, nil
}

// readAgain reads the source again. What cannot be used leaves what is in use. c.mu is
// held.
func (c *credentials) readAgain(ctx context.Context) {
	text, err := c.source.read()
	var read reading
	if err == nil {
		read, err = readText(c.source.name(), text)
	}
	switch {
	case err != nil:
		c.say(ctx, slog.LevelWarn, "the connection string cannot be read again, the user and the password in use stay", "error", err)
	case read.place() != c.place:
		c.say(ctx, slog.LevelWarn, "the connection string names another server or database, the one in use stays",
			"remedy", "restart the worker to use it")
	case read.config.ConnConfig.Password == "" && c.used.password != "":
		c.say(ctx, slog.LevelWarn, "the connection string has no password any more, the user and the password in use stay",
			"remedy", "check "+c.placeOfPassword())
	default:
		changed := read.login() != c.used
		c.used = read.login()
		switch {
		case !maps.Equal(read.withoutLogin(), c.settings):
			c.say(ctx, slog.LevelWarn, "settings of the connection string have changed, those in use stay",
				"remedy", "restart the worker to use them")
		case changed:
			c.said = ""
			c.log(ctx, slog.LevelInfo, "new connections use another user or password")
		default:
			c.said = ""
		}
	}
}

// say logs what is wrong, unless it is what was logged last.
func (c *credentials) say(ctx context.Context, level slog.Level, message string, more ...any) {
	if said := message + fmt.Sprint(more...); said != c.said {
		c.said = said
		c.log(ctx, level, message, more...)
	}
}

func (c *credentials) log(ctx context.Context, level slog.Level, message string, more ...any) {
	if c.source.Logger != nil {
		c.source.Logger.Log(ctx, level, message, append([]any{"source", c.source.name()}, more...)...)
	}
}

func (c *credentials) placeOfPassword() string {
	if c.file == "" {
		return c.source.name()
	}
	return c.file
}

// checkReadAgain begins the remedy of a login that was refused with a password that is
// read again. No server's hint begins so.
const checkReadAgain = "check the user and the password in "

// hint adds the remedy to the server's error where it has refused the login.
func (c *credentials) hint(failed *pgconn.PgError) {
	if c.file != "" && IsLoginRefused(failed) {
		failed.Hint = checkReadAgain + c.file + ", which is read again for each connection"
	}
}

// isReadAgain reports whether the login was refused with a password that is read again,
// so that waiting can mend it. The remedy is the error's hint.
func isReadAgain(err *pgconn.PgError) bool { return strings.HasPrefix(err.Hint, checkReadAgain) }
