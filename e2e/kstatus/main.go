// Command kstatus judges Kubernetes objects as Flux and kpt do: one JSON object per line on standard input, and for
// each of them one line of JSON, {"status", "message"}, on standard output.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

func main() {
	if err := judge(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func judge(in io.Reader, out io.Writer) error {
	objects := json.NewDecoder(in)
	answers := json.NewEncoder(out)
	for {
		var text json.RawMessage
		if err := objects.Decode(&text); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		// not into a map: whole numbers are to be int64, as everywhere in Kubernetes
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(text); err != nil {
			return err
		}
		found, err := status.Compute(object)
		if err != nil {
			return err
		}
		answer := map[string]string{"status": found.Status.String(), "message": found.Message}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
}
