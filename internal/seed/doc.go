// Package seed turns environment variables into desired providers and
// reconciles them with the database.
package seed
