// Package exportname is how a client of a cluster says in the name of an export which
// volume it wants, and who it is: NAME?client=ID.N, where ID is a number of 16 hexadecimal
// digits that the client has drawn, and N counts its connections.
package exportname

import (
	"fmt"
	"strconv"
	"strings"
)

const mark = "?client="

// Make returns the name for connection number of a client.
func Make(volume string, client, number uint64) string {
	return fmt.Sprintf("%s%s%016x.%d", volume, mark, client, number)
}

// Parse takes a name apart. One without a client has the client 0.
func Parse(name string) (volume string, client, number uint64, err error) {
	volume, rest, ok := strings.Cut(name, mark)
	if !ok {
		return name, 0, 0, nil
	}
	id, count, _ := strings.Cut(rest, ".")
	client, err = strconv.ParseUint(id, 16, 64)
	if err == nil {
		number, err = strconv.ParseUint(count, 10, 64)
	}
	if err != nil || Make(volume, client, number) != name || client == 0 || number == 0 {
		return "", 0, 0, fmt.Errorf("the export name %.200q, expected NAME%sID.N, 16 hexadecimal digits and a number", name, mark)
	}
	return volume, client, number, nil
}
