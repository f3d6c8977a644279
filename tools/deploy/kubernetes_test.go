package deploy

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// rendered is what kustomize makes of a folder of deploy/kubernetes, by name.
type rendered struct {
	deployments map[string]appsv1.Deployment
	secrets     map[string]corev1.Secret
	configMaps  map[string]corev1.ConfigMap
}

func render(t *testing.T, name string) rendered {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), repository+"/deploy/kubernetes/"+name)
	require.NoError(t, err)
	r := rendered{map[string]appsv1.Deployment{}, map[string]corev1.Secret{}, map[string]corev1.ConfigMap{}}
	for _, resource := range resources.Resources() {
		text, err := resource.AsYAML()
		require.NoError(t, err)
		switch resource.GetKind() {
		case "Deployment":
			var d appsv1.Deployment
			require.NoError(t, yaml.UnmarshalStrict(text, &d), "fields that Kubernetes knows")
			r.deployments[d.Name] = d
		case "Secret":
			var s corev1.Secret
			require.NoError(t, yaml.UnmarshalStrict(text, &s))
			r.secrets[s.Name] = s
		case "ConfigMap":
			var c corev1.ConfigMap
			require.NoError(t, yaml.UnmarshalStrict(text, &c))
			r.configMaps[c.Name] = c
		default:
			t.Fatalf("a %s that nothing checks", resource.GetKind())
		}
	}
	return r
}

// mount writes what a container has mounted into a folder, and returns what gives
// the path there of a path in the container. All that a pod mounts must exist.
func (r rendered) mount(t *testing.T, pod corev1.PodSpec, container corev1.Container) *strings.Replacer {
	t.Helper()
	volumes := map[string]map[string][]byte{}
	for _, volume := range pod.Volumes {
		files := map[string][]byte{}
		switch {
		case volume.Secret != nil:
			require.Contains(t, r.secrets, volume.Secret.SecretName)
			files = r.secrets[volume.Secret.SecretName].Data
		case volume.ConfigMap != nil:
			require.Contains(t, r.configMaps, volume.ConfigMap.Name)
			for name, text := range r.configMaps[volume.ConfigMap.Name].Data {
				files[name] = []byte(text)
			}
		default:
			t.Fatalf("a volume %s that nothing checks", volume.Name)
		}
		volumes[volume.Name] = files
	}
	var paths []string
	for _, m := range container.VolumeMounts {
		require.NotEmpty(t, volumes[m.Name], m.Name)
		require.True(t, m.ReadOnly, m.Name)
		dir := t.TempDir()
		paths = append(paths, m.MountPath+"/", dir+"/")
	}
	replacer := strings.NewReplacer(paths...)
	for _, m := range container.VolumeMounts {
		for name, content := range volumes[m.Name] {
			// Files refer to each other as well.
			require.NoError(t, os.WriteFile(replacer.Replace(m.MountPath+"/"+name), []byte(replacer.Replace(string(content))), 0o600))
		}
	}
	return replacer
}

// requireContained checks the security context of a container of the worker's.
func requireContained(t *testing.T, security *corev1.SecurityContext) {
	t.Helper()
	require.True(t, *security.RunAsNonRoot)
	require.True(t, *security.ReadOnlyRootFilesystem)
	require.False(t, *security.AllowPrivilegeEscalation)
	require.EqualValues(t, 65532, *security.RunAsUser, "the image's user")
	require.Equal(t, []corev1.Capability{"ALL"}, security.Capabilities.Drop)
}

func TestKubernetes(t *testing.T) {
	t.Run("Sidecar", testKubernetesSidecar)
	t.Run("Standalone", testKubernetesStandalone)
	t.Run("PodSecurityStandard", testKubernetesPodSecurityStandard)
}

func testKubernetesSidecar(t *testing.T) {
	example := render(t, "example")
	secrets := example.secrets
	pod := example.deployments["gateway"].Spec.Template.Spec
	require.Len(t, pod.Containers, 1)
	require.Len(t, pod.InitContainers, 1)
	sidecar := pod.InitContainers[0]
	require.Equal(t, corev1.ContainerRestartPolicyAlways, *sidecar.RestartPolicy, "a sidecar, and not a step before the gateway's start")
	require.Equal(t, "registry.example/provwatch:v1.0.0", sidecar.Image)

	// What it refers to exists, and the worker takes it.
	var environment []string
	for _, from := range sidecar.EnvFrom {
		secret, exists := secrets[from.SecretRef.Name]
		require.True(t, exists, from.SecretRef.Name)
		for name, value := range secret.Data {
			environment = append(environment, name+"="+string(value))
		}
	}
	require.Equal(t, pod.Containers[0].EnvFrom, sidecar.EnvFrom, "the provider variables are the gateway's own")
	mounted := example.mount(t, pod, sidecar)
	port := ""
	for _, variable := range sidecar.Env {
		if variable.ValueFrom != nil {
			key := variable.ValueFrom.SecretKeyRef
			require.Contains(t, secrets[key.Name].Data, key.Key)
			require.Equal(t, "DATABASE_URL", variable.Name)
			continue
		}
		if variable.Name == "PROVWATCH_HTTP_ADDR" {
			_, port, _ = strings.Cut(variable.Value, ":")
		}
		environment = append(environment, variable.Name+"="+mounted.Replace(variable.Value))
	}
	require.Contains(t, environment, announced)
	requireUsable(t, environment, sidecar.Args...)

	// The probes ask for pages that there are, on the port that is served.
	require.Len(t, sidecar.Ports, 1)
	require.Equal(t, port, "9464")
	require.EqualValues(t, 9464, sidecar.Ports[0].ContainerPort)
	for path, probe := range map[string]*corev1.Probe{"/readyz": sidecar.StartupProbe, "/healthz": sidecar.LivenessProbe} {
		require.NotNil(t, probe)
		require.Equal(t, path, probe.HTTPGet.Path)
		require.Equal(t, sidecar.Ports[0].Name, probe.HTTPGet.Port.StrVal)
	}
	require.Nil(t, sidecar.ReadinessProbe, "a worker that cannot look does not take the gateway out of service")

	requireContained(t, sidecar.SecurityContext)
}

func testKubernetesStandalone(t *testing.T) {
	standalone := render(t, "standalone")
	pod := standalone.deployments["provwatch"].Spec.Template.Spec
	require.Len(t, pod.Containers, 1)
	container := pod.Containers[0]
	require.Equal(t, "registry.example/provwatch:v1.0.0", container.Image)
	require.Equal(t, standalone.deployments["provwatch"].Spec.Selector.MatchLabels, standalone.deployments["provwatch"].Spec.Template.Labels)
	require.EqualValues(t, 2, *standalone.deployments["provwatch"].Spec.Replicas)
	require.Equal(t, "/healthz", container.LivenessProbe.HTTPGet.Path)
	require.Equal(t, container.Ports[0].Name, container.LivenessProbe.HTTPGet.Port.StrVal)
	require.Nil(t, container.StartupProbe, "a target that fails is no reason to restart those of the others")
	require.Nil(t, container.ReadinessProbe)
	requireContained(t, container.SecurityContext)

	mounted := standalone.mount(t, pod, container)
	known := variables(t)
	var environment []string
	file, token := "", ""
	for _, variable := range container.Env {
		require.True(t, known[variable.Name], variable.Name)
		value := mounted.Replace(variable.Value)
		switch variable.Name {
		case "PROVWATCH_CONFIG":
			file = value
		case "PROVWATCH_HTTP_TOKEN_FILE":
			content, err := os.ReadFile(value)
			require.NoError(t, err)
			token = string(content)
		case "PROVWATCH_HTTP_ADDR":
			require.EqualValues(t, value, fmt.Sprintf(":%d", container.Ports[0].ContainerPort))
			value = "127.0.0.1:0"
		}
		environment = append(environment, variable.Name+"="+value)
	}
	require.Contains(t, environment, announced)

	// Each target gets as far as its database, which there is not.
	var config struct{ Targets []struct{ Name string } }
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(content, &config))
	require.Len(t, config.Targets, 2)
	for _, target := range config.Targets {
		code, out := run(t, environment, "verify", "--target", target.Name, "--connect-timeout=1ms")
		require.Equal(t, 4, code, out)
		require.Contains(t, out, target.Name+"-db.example")
	}

	// All together are served, to the probe and to whoever has the token.
	command := exec.CommandContext(t.Context(), worker, container.Args...)
	command.Env = environment
	log, err := command.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	lines := bufio.NewScanner(log)
	address := ""
	for address == "" && lines.Scan() {
		var line struct{ Msg, Address string }
		require.NoError(t, json.Unmarshal(lines.Bytes(), &line), lines.Text())
		if line.Msg == "serving HTTP" {
			address = line.Address
		}
	}
	require.NotEmpty(t, address)
	answer := func(path, token string) int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}
	require.Equal(t, 200, answer("/healthz", ""))
	require.Equal(t, 401, answer("/", ""))
	require.Equal(t, 200, answer("/", token))
	require.NoError(t, command.Process.Signal(syscall.SIGTERM))
	for lines.Scan() { // until it has ended
	}
	require.NoError(t, command.Wait(), "it stops with exit code 0")
}

// testKubernetesPodSecurityStandard asks what the API server asks in a namespace that
// enforces it. The gateway's own containers are not ours.
func testKubernetesPodSecurityStandard(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	require.NoError(t, err)
	refused := func(pod *corev1.PodSpec) string {
		restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
		result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &metav1.ObjectMeta{}, pod))
		require.Equal(t, result.Allowed, len(result.ForbiddenReasons) == 0)
		return result.ForbiddenDetail()
	}
	pod := render(t, "standalone").deployments["provwatch"].Spec.Template.Spec
	require.Empty(t, refused(&pod))
	pod = render(t, "example").deployments["gateway"].Spec.Template.Spec
	pod.Containers = nil
	require.Empty(t, refused(&pod))
	pod.InitContainers[0].SecurityContext.SeccompProfile = nil
	require.Contains(t, refused(&pod), "seccompProfile")
}
