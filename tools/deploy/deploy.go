// Package deploy checks what is in the folder deploy, by its tests: against the
// worker that is built for it, and by the libraries of the programs that read it.
// It is a module of its own, since these bring more modules than the worker.
package deploy
