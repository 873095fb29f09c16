{{- /* The release's name with the chart's; cut so that a pod's name stays within 63 characters. */ -}}
{{- define "tidegate.name" -}}
{{- if contains "tidegate" .Release.Name -}}
{{- .Release.Name | trunc 32 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-tidegate" (.Release.Name | trunc 23 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- /* Labels that select the pods of one part; given a dict of root and part. */ -}}
{{- define "tidegate.selector" -}}
app.kubernetes.io/name: tidegate
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "tidegate.labels" -}}
{{ include "tidegate.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- /* Of a pod that has no business with Kubernetes; given the root. */ -}}
{{- define "tidegate.noAccount" -}}
serviceAccountName: {{ include "tidegate.name" . }}
automountServiceAccountToken: false
{{- end -}}

{{- /* What every pod has, beside its account, containers and volumes; given the root. */ -}}
{{- define "tidegate.pod" -}}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* Whether the record is a PostgreSQL that is there already: empty when not; given the root. */ -}}
{{- define "tidegate.recordIsShared" -}}
{{- if or .Values.record.url .Values.record.secret.name }}yes{{ end -}}
{{- end -}}

{{- /* A container's image, settings and rights; given a dict of root and part. Who has no business with
       the record does not get its password. */ -}}
{{- define "tidegate.container" -}}
{{- with .root -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext: {{- include "tidegate.rights" . | nindent 2 }}
envFrom:
  - configMapRef: {name: {{ include "tidegate.name" . }}}
{{- end }}
{{- if eq .part "capacity" }}
env:
  - {name: TIDEGATE_POOLS, value: "kubernetes://{{ .root.Values.pools.namespace }}"}
  - name: TIDEGATE_NODE # the Lease is held in the pod's name
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- else if eq .part "agent" }}
env:
  - {name: TIDEGATE_POOLS, value: "kubernetes://{{ .root.Values.pools.namespace }}"}
  - name: TIDEGATE_NODE # the engines of this node are read, and no others
    valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
  {{- if .root.Values.agent.podResources }}
  - {name: TIDEGATE_POD_RESOURCES, value: /var/lib/kubelet/pod-resources/kubelet.sock}
  {{- end }}
  {{- if .root.Values.agent.metrics }}
  - {name: TIDEGATE_METRICS, value: "0.0.0.0:9464"}
  {{- end }}
  # Every GPU to look at and none to compute on; no GPU is asked of the scheduler.
  - {name: NVIDIA_VISIBLE_DEVICES, value: all}
  - {name: NVIDIA_DRIVER_CAPABILITIES, value: utility}
{{- end }}
{{- $secrets := dict }}
{{- with .root.Values.redis.secret }}
{{- if .name }}{{ $_ := set $secrets "TIDEGATE_REDIS" . }}{{ end }}
{{- end }}
{{- if has .part (list "recorder" "gate") }}
{{- with .root.Values.record.secret }}
{{- if .name }}{{ $_ := set $secrets "TIDEGATE_RECORD" . }}{{ end }}
{{- end }}
{{- end }}
{{- with $secrets }}
{{- if not (has $.part (list "capacity" "agent")) }}
env:
{{- end }}
{{- range $variable, $secret := . }}
  - name: {{ $variable }}
    valueFrom:
      secretKeyRef: {name: {{ $secret.name }}, key: {{ $secret.key }}}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Where the file of a Secret is mounted, and its volume; given a dict of file and secret. */ -}}
{{- define "tidegate.secretMount" -}}
- {name: {{ .file }}, mountPath: /etc/tidegate/{{ .file }}, readOnly: true}
{{- end -}}

{{- define "tidegate.secretVolume" -}}
- name: {{ .file }}
  secret:
    secretName: {{ .secret.name }}
    defaultMode: 0440
    items: [{key: {{ .secret.key }}, path: {{ .secret.key }}}]
{{- end -}}

{{- define "tidegate.rights" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* A probe of a server that listens on the loopback, where the kubelet cannot reach it. */ -}}
{{- define "tidegate.loopbackProbe" -}}
exec:
  command:
    - python
    - -c
    - import urllib.request; urllib.request.urlopen("{{ . }}", timeout=2)
timeoutSeconds: 3
{{- end -}}
