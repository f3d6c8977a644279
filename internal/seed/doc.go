// Package seed reconciles the desired providers with the database.
package seed
