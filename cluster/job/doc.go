// Package job is what all background work of a node has in common, whatever it does:
// it is done in small steps, it can be suspended between any two of them, it leaves
// the disk to requests of clients where there are some, and people can see how far it
// has come.
//
//	Board     the jobs of a node: what is going on, suspended or not
//	Job       one of them: begun, a step after the other, ended
//	Throttle  one for each disk: when the next step may begin
//
// Where a job goes on after its process has died is its own affair: it has a cursor
// that is durable, or what it does is what has to be done still.
//
// # Steps and requests
//
// A Throttle is told of each request of a client. While there are none, steps follow
// each other at once, and jobs of the same disk run at the same time. Where there was
// one within the last [Quiet], one step at a time is done, a short one, and after it
// nothing for as long as it took or longer: [Urgent] jobs, on which it depends
// whether data survive, rest less than those that are due [Soon], and those less than
// others. So the part of the time in which a
// request can meet a step is small, and so is what it waits for then.
package job
