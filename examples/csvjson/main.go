// Csvjson makes JSON of CSV: an array with an object for each record, whose
// fields are named by the first record.
//
// Built as a reactor it exports convert, which takes and gives bytes; see
// ../README.md. Built as anything else it converts its standard input.
package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// main is not called in a reactor.
func main() {
	if err := convert(os.Stdout, os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "csvjson:", err)
		os.Exit(1)
	}
}

func convert(out io.Writer, in io.Reader) error {
	r := csv.NewReader(in)
	names, err := r.Read()
	if errors.Is(err, io.EOF) {
		return errors.New("there is no first record, which names the fields")
	}
	if err != nil {
		return err
	}
	objects := []map[string]string{}
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return json.NewEncoder(out).Encode(objects)
		}
		if err != nil {
			return err
		}
		object := make(map[string]string, len(names))
		for i, name := range names { // as many as there are fields, or Read had failed
			object[name] = record[i]
		}
		objects = append(objects, object)
	}
}
